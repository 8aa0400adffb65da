"""A real Slurm of one node, as ordinary processes: keys, sockets, state and logs in one folder, ports of its own.

Nothing of it needs systemd, cgroups or root, and two of them can be up side by side. Debian's packages:
munge slurmctld slurmd slurm-client; for a database slurmdbd slurm-wlm-mysql-plugin mariadb-server-core
mariadb-client-core.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.cluster.configuration import CONFIGURATION, DATABASE
from tests.cluster.processes import asked, children, end, end_all, free_port, until

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
NEEDED = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client"}
NEEDED_BY_DATABASE = {
    "slurmdbd": "slurmdbd slurm-wlm-mysql-plugin",
    "mariadbd": "mariadb-server-core",
    "mariadb": "mariadb-client-core",
}
MUNGE_LIVES_S = 5  # as long must a requeued job wait


def missing(database: bool = False) -> list[str]:
    """Debian's packages that are not installed."""
    needed = NEEDED | (NEEDED_BY_DATABASE if database else {})
    return [package for program, package in needed.items() if not shutil.which(program, path=PATH)]


class Slurm:
    """`with Slurm(folder) as slurm: slurm.ask("sinfo")`; `remembers`: seconds for which a job that ended is known."""

    def __init__(self, home: Path, database: bool = False, remembers: int = 300) -> None:
        self.home, self.database, self.remembers = home, database, remembers
        self.host = socket.gethostname().partition(".")[0]
        self.environment = {"SLURM_CONF": str(home / "slurm.conf"), "PATH": PATH}
        self._socket, self._ports = home / "munge" / "socket", [free_port() for _ in range(3)]

    def __enter__(self) -> Slurm:
        for folder in ("state", "spool", "munge"):
            (self.home / folder).mkdir(parents=True, mode=0o755)
        names = {"home": self.home, "socket": self._socket, "user": getpass.getuser()}
        lines = ["AccountingStorageType=accounting_storage/none"]
        if self.database:
            lines = [
                "AccountingStorageType=accounting_storage/slurmdbd",
                "AccountingStorageHost=127.0.0.1",
                f"AccountingStoragePort={self._ports[2]}",
                f"AccountingStoragePass={self._socket}",
            ]
            file = self.home / "slurmdbd.conf"
            file.write_text(DATABASE.format(port=self._ports[2], **names))
            file.chmod(0o600)
        (self.home / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=self.host,
                ports=self._ports,
                lives=MUNGE_LIVES_S,
                remembers=self.remembers,
                accounting="\n".join(lines),
                **names,
            )
        )
        try:
            self._start_munge()
            if self.database:
                self._start_database()
            self.start_controller()
            self.start_node()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged"):
            if pid := self._pid(name):
                self._kill(name, pid)
        for pid in self._steps():
            end_all(pid)

    def ask(self, *command: str) -> str:
        return asked(list(command), self.environment)

    def start_controller(self) -> None:
        self._daemon("slurmctld", "-f", str(self.home / "slurm.conf"))
        until(lambda: "UP" in subprocess.run(
            ["scontrol", "ping"], env=os.environ | self.environment, capture_output=True, text=True
        ).stdout, 30, "slurmctld")  # fmt: skip

    def stop_controller(self) -> None:
        pid = self._pid("slurmctld")
        assert pid
        self._kill("slurmctld", pid)

    def start_node(self) -> None:
        self._daemon("slurmd", "-f", str(self.home / "slurm.conf"), "-N", self.host)
        until(lambda: self.node() in ("idle", "mix", "alloc"), 60, "the node")

    def kill_node(self) -> None:
        """All that a machine that loses its power would end: slurmd, and its jobs with their processes."""
        steps = self._steps()
        pid = self._pid("slurmd")
        assert pid
        for each in [pid, *steps]:
            end_all(each)
        (self.home / "slurmd.pid").unlink(missing_ok=True)

    def node(self) -> str:
        return self.ask("sinfo", "--noheader", "--format=%t").strip()

    def jobs(self) -> list[list[str]]:
        """(id, state) of each that waits or runs."""
        said = self.ask("squeue", "--noheader", "--array", "--format=%i|%T")
        return [line.split("|") for line in said.splitlines()]

    def state(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says: JobState, Restarts, ..."""
        words = self.ask("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def _start_munge(self) -> None:
        place = self.home / "munge"
        (place / "key").write_bytes(os.urandom(256))
        (place / "key").chmod(0o400)
        self._daemon(
            "munged", "--force", f"--key-file={place}/key", f"--socket={self._socket}",
            f"--pid-file={self.home}/munged.pid", f"--log-file={place}/log", f"--seed-file={place}/seed",
        )  # fmt: skip
        until(self._socket.exists, 10, "munged")

    def _start_database(self) -> None:
        place, user = self.home / "mariadb", getpass.getuser()
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={place}", f"--user={user}",
             "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True, capture_output=True, env=os.environ | {"PATH": PATH},
        )  # fmt: skip
        with (self.home / "mariadbd.out").open("w") as said:
            subprocess.Popen(
                ["mariadbd", "--no-defaults", f"--datadir={place}", f"--user={user}", "--skip-networking",
                 f"--socket={place}/socket", f"--pid-file={self.home}/mariadbd.pid", "--skip-grant-tables",
                 "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900"],
                stdout=said, stderr=said, start_new_session=True, env=os.environ | {"PATH": PATH},
            )  # fmt: skip
        ask = ["mariadb", "--no-defaults", f"--socket={place}/socket", "--execute=CREATE DATABASE slurm"]
        until(lambda: not subprocess.run(ask, capture_output=True).returncode, 60, "mariadbd")
        self.environment["MYSQL_UNIX_PORT"] = f"{place}/socket"
        self._daemon("slurmdbd")
        add = ["sacctmgr", "--immediate", "add", "cluster", "tests"]
        env = os.environ | self.environment
        until(lambda: "tests" in subprocess.run(
            add, env=env, capture_output=True, text=True
        ).stdout, 60, "slurmdbd")  # fmt: skip

    def _daemon(self, *command: str) -> None:
        with (self.home / f"{command[0]}.out").open("a") as said:
            done = subprocess.run(
                command, env=os.environ | self.environment, stdout=said, stderr=said, stdin=subprocess.DEVNULL
            )
        assert done.returncode == 0, (self.home / f"{command[0]}.out").read_text()

    def _pid(self, name: str) -> int | None:
        """Of a daemon of ours that lives."""
        file = self.home / f"{name}.pid"
        if not file.is_file() or not (text := file.read_text().strip()):
            return None
        comm = Path("/proc", text, "comm")
        return int(text) if comm.is_file() and comm.read_text().strip() == name else None

    def _kill(self, name: str, pid: int) -> None:
        end(pid, 15)
        deadline = time.monotonic() + 10
        while self._pid(name) and time.monotonic() < deadline:
            time.sleep(0.1)
        end_all(pid)

    def _steps(self) -> list[int]:
        """The slurmstepd of this Slurm's jobs, which are nobody's children; their spool folder names them."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                ours = str(self.home).encode() in (folder / "environ").read_bytes()
                if ours and (folder / "comm").read_text().strip() == "slurmstepd":
                    found.append(int(folder.name))
            except OSError:
                continue
        return [*found, *(child for pid in found for child in children(pid))]
