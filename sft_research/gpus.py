"""The GPUs of this machine, handed out to runs: one that a run of any grid of this machine has is not given again."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir

NAMES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Taken:
    """Names for CUDA_VISIBLE_DEVICES, and a lock's open file for each. The run inherits the files, so that a GPU is
    its own for as long as either it or its grid lives."""

    names: tuple[str, ...] = ()
    files: tuple[int, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        return {NAMES: ",".join(self.names)} if self.names else {}

    def give_back(self) -> None:
        for file in self.files:
            os.close(file)


def visible() -> dict[str, str]:
    """Those that this process may use, of CUDA_VISIBLE_DEVICES or all that the driver lists; for each the device that
    it is: a UUID. `0` and `GPU-5f3e` may be one device, and in two containers `0` may be two."""
    if os.environ.get(NAMES) in ("", "-1"):
        return {}
    listed = _listed()
    names = os.environ[NAMES].split(",") if NAMES in os.environ else listed
    return {name: _device(name, listed) for name in map(str.strip, names) if name not in ("", "-1")}


def _listed() -> dict[str, str]:
    """The UUID of each number; empty where there is no driver."""
    try:
        done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(re.findall(r"^GPU (\d+):.*\(UUID: ([^)\s]+)\)", done.stdout, re.MULTILINE))


def _device(name: str, listed: Mapping[str, str]) -> str:
    """The UUID of a number, or of the beginning of one; of what the driver does not list so, the name itself."""
    begun = [uuid for uuid in listed.values() if uuid.startswith(name)]
    return listed.get(name, begun[0] if len(begun) == 1 else name)


def take(gpus: Mapping[str, str], count: int) -> Taken | None:
    """`count` free ones of these, each a name and its device; None where fewer are free."""
    taken = Taken()
    for name, device in gpus.items():
        if len(taken.names) == count:
            break
        file = _locked(device)
        if file is not None:
            taken = Taken((*taken.names, name), (*taken.files, file))
    if len(taken.names) == count:
        return taken
    taken.give_back()
    return None


def _locked(device: str) -> int | None:
    """The open file of a GPU's lock, which is every user's; None where another has it."""
    place = Path(gettempdir(), f"sft_research-gpu-{re.sub(r'[^0-9A-Za-z-]', '_', device)}.lock")
    file = _opened(place)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _opened(place: Path) -> int:
    """Another user's file too: in /tmp a kernel may refuse O_CREAT there (fs.protected_regular)."""
    flags = os.O_RDONLY | os.O_NOFOLLOW
    with suppress(FileNotFoundError):
        return os.open(place, flags)
    try:
        file = os.open(place, flags | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:  # another was first
        return os.open(place, flags)
    os.fchmod(file, 0o644)  # to be read by all, whatever the umask
    return file
