"""The command line: Hydra composes, we run, and what is wrong is said in one message without a traceback."""

from __future__ import annotations

import gc
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from sft_research import other_ranks, ranks, secrets
from sft_research.config import CONF_DIR, MAIN, ConfigError, Run, config_dir_of, without_hydra
from sft_research.console import Heard
from sft_research.explain import explained
from sft_research.launcher import GridFailed
from sft_research.pausing import Paused
from sft_research.point import stop_with_the_grid
from sft_research.stopping import Stopped
from sft_research.trust import require_trusted

if TYPE_CHECKING:
    from sft_research.result import Result

CONFIG_ERROR, FAILED, INTERRUPTED = 2, 1, 130
TAKES_A_VALUE = re.compile(r"--config-(dir|path|name)|-c[dpn]?|--cfg|--package|-p|--info|-i")

# The config of a run's folder says nothing of Hydra, which would make folders and logs of its own.
OF_A_RUN = (
    "hydra.run.dir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "hydra/launcher=local",
)


def command(train: Callable[[Run], Result]) -> None:
    """Run `train` on what the command line composes; exit with 0, 1 (failed), 2 (config), or 128 and the
    number of the signal that stopped it: 130 (Ctrl-C), 143 (SIGTERM), 138 (SIGUSR1), 140 (SIGUSR2)."""
    run_composed(lambda run: _plan(run) if run.cfg.plan else train(run).after.loss, not ranks.first())


def _plan(run: Run) -> None:
    from sft_research.plan import plan

    plan(run)


def run_composed(task: Callable[[Run], Any], show_traceback: bool = False) -> None:
    """The same for any task; `show_traceback` for one that keeps no log of its own."""

    @hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=MAIN)
    def main(cfg: DictConfig) -> Any:
        hydra_config = HydraConfig.get()
        experiment = hydra_config.runtime.choices.get("experiments") or "default"
        overrides, folder = tuple(hydra_config.overrides.task), config_dir_of(hydra_config)
        name = hydra_config.job.config_name or MAIN
        experiment = experiment if name == MAIN else "repeats"
        run = Run(without_hydra(cfg), overrides, experiment, folder, name)
        with ending(show_traceback):
            return task(run)

    stop_with_the_grid()
    other_ranks.end_with_the_run()
    secrets.load()  # before anything is named or written
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing them its way
    sys.argv[1:] = _flags_first(sys.argv[1:])
    with ending(show_traceback):
        require_trusted(sys.argv[1:])
        main()
    gc.freeze()  # the process ends here: its last collections would only look through all modules


def _flags_first(arguments: Sequence[str]) -> list[str]:
    """Hydra's parser wants overrides in one block: `model=tiny -m seed=0,1` -> `-m model=tiny seed=0,1`."""
    flags: list[str] = []
    overrides: list[str] = []
    for before, argument in pairwise(["", *arguments]):
        is_flag = argument.startswith("-") or TAKES_A_VALUE.fullmatch(before)
        (flags if is_flag else overrides).append(argument)
    if any(re.match("--config-name|-cn", flag) for flag in flags):
        overrides = [*OF_A_RUN, *overrides]
    return [*flags, *overrides]


@contextmanager
def ending(show_traceback: bool = False) -> Iterator[None]:
    """Turn what went wrong into a message and an exit status."""
    try:
        with explained(sys.argv[1:]):
            yield
    except ConfigError as error:
        _exit(CONFIG_ERROR, str(error))
    except GridFailed as error:
        _exit(FAILED, str(error))
    except Paused as paused:
        _exit(0, str(paused))
    except Stopped as stopped:
        _exit(stopped.status, str(stopped))
    except KeyboardInterrupt:
        _exit(INTERRUPTED, "Interrupted. The same command starts the run again.")
    except BrokenPipeError:  # `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        notes = getattr(error, "__notes__", [])  # of the run's folder, where there is one: its train.log
        trace = [traceback.format_exc()] if show_traceback else []
        _exit(FAILED, "\n".join([f"{type(error).__name__}: {error}", *notes, *trace]))


def _exit(status: int, message: str) -> NoReturn:
    if not ranks.first() and ranks.MEET not in os.environ:
        message = f"rank {ranks.rank()}: {message}"  # torchrun shows what all say
    Heard(sys.stderr).write(f"{secrets.redact(message)}\n")
    sys.exit(status)
