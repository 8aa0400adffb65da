"""`deterministic=true`: kernels that give the same bits each time. On a CPU they do without it.

An operation that has no such kernel then raises, and says its name. The price on a GPU is speed: sums whose
order may vary are made in a fixed one, and memory is filled before it is used. Compare
`train/tokens_per_second` of a short run with and without it; no figure of another machine is yours.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)
# Read by cuBLAS when its first handle is made, and by flash attention's backward.
VARIABLES = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "FLASH_ATTENTION_DETERMINISTIC": "1"}


@contextmanager
def asked_for(wanted: bool) -> Iterator[None]:
    """Deterministic kernels inside, where they are wanted; torch's settings and the environment are as before after.

    (What cuBLAS has read of the environment it keeps for the process.)
    """
    if not wanted:
        yield
        return
    unset = {name: value for name, value in VARIABLES.items() if name not in os.environ}
    os.environ.update(unset)
    import torch

    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    log.info("%s", _price(torch.cuda.is_available()))
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
        for name in unset:
            os.environ.pop(name, None)


def _price(on_gpu: bool) -> str:
    if not on_gpu:
        return "deterministic=true: on a CPU two runs are bit-identical without it, at no cost."
    return (
        "deterministic=true: sums are made in a fixed order and memory is filled before use, which costs speed; "
        "compare train/tokens_per_second with deterministic=false."
    )
