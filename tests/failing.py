"""Ways in which a machine refuses a run, made to happen in the run's own process, by optimizers that step once."""

from __future__ import annotations

# Put beside a run as failing.py: the process comes without some power at its second step.
FAILING = """
import ctypes, os, resource, shutil, torch
from pathlib import Path


class Failing(torch.optim.SGD):
    steps = 0

    def step(self, closure=None):
        self.steps += 1
        if self.steps == 2:
            self.fail(next(Path("runs").glob("default/*/train.log")).parent)
        return super().step(closure)


class Full(Failing):
    def fail(self, folder):
        # As on a full disk: the system writes no byte more, whatever the file.
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


class FullFile(Failing):
    def fail(self, folder):
        (folder / "metrics.jsonl").unlink()
        (folder / "metrics.jsonl").symlink_to("/dev/full")


class Gone(Failing):
    def fail(self, folder):
        (folder / "metrics.jsonl").unlink()
        (folder / "metrics.jsonl").symlink_to(folder / "not" / "there")


class OutOfMemory(Failing):
    def fail(self, folder):
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held, resource.RLIM_INFINITY))
        torch.empty(2**34, dtype=torch.uint8)
"""

# Root may do all: without these capabilities its permissions are those of any user.
DROP = """
import ctypes, runpy, sys

libc = ctypes.CDLL(None, use_errno=True)
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc.capget(header, data)
for word in range(3):
    data[word] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
libc.capset(header, data)
sys.argv = ["sft_research.train", *sys.argv[1:]]
runpy.run_module("sft_research.train", run_name="__main__", alter_sys=True)
"""
