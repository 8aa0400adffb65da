"""A real Ray of two nodes on this machine: a head with one core, and a second node with two and a resource of its own.

Each is a session of its own, so that one can be killed as a machine is that loses its power. `ray stop` is never
used: it ends every Ray of the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster.processes import end_all, free_port, until

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "6",
}
RAY = str(Path(sys.executable).with_name("ray"))


class Ray:
    """`with Ray(folder) as ray: ray.address`. A worker starts in the directory of its node: `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.address = f"127.0.0.1:{free_port()}"
        # Of Ray's own files: a socket's path may have 107 characters, so not below pytest's folder.
        self._files = tempfile.mkdtemp(prefix="ray-")
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Ray:
        try:
            port = self.address.partition(":")[2]
            self._start(
                "head",
                "--head",
                f"--port={port}",
                "--num-cpus=1",
                "--include-dashboard=false",
                f"--temp-dir={self._files}",
            )
            self.start_second()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._nodes):
            self._kill(name)
        shutil.rmtree(self._files, ignore_errors=True)

    def start_second(self) -> None:
        self._start("second", f"--address={self.address}", "--num-cpus=2", '--resources={"second": 2}')

    def kill_second(self) -> None:
        self._kill("second")

    def _start(self, name: str, *arguments: str) -> None:
        file = self.home / f"{name}.out"
        with file.open("w") as said:
            self._nodes[name] = subprocess.Popen(
                [RAY, "start", "--block", "--node-ip-address=127.0.0.1", "--num-gpus=0",
                 "--object-store-memory=80000000", "--disable-usage-stats", *arguments],
                cwd=self.home, env=os.environ | ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True,
            )  # fmt: skip
        until(lambda: "Ray runtime started" in file.read_text(), 90, f"the {name} node of Ray")

    def _kill(self, name: str) -> None:
        node = self._nodes.pop(name)
        end_all(node.pid)
        node.wait(30)
