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
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sft_research import secrets
from sft_research.config import CONF_DIR, ConfigError, Run, without_hydra
from sft_research.explain import NULL_OPTION, explain
from sft_research.launcher import GridFailed

if TYPE_CHECKING:
    from sft_research.result import Result

CONFIG_ERROR, FAILED, INTERRUPTED = 2, 1, 130
IN_THE_LOG = "The traceback is in the run's train.log."
TAKES_A_VALUE = re.compile(r"--config-(dir|path|name)|-c[dpn]?|--cfg|--package|-p|--info|-i")


def command(train: Callable[[Run], Result]) -> None:
    """Run `train` on what the command line composes; exit with 0, 1 (failed), 2 (config) or 130 (Ctrl-C)."""
    run_composed(lambda run: train(run).after.loss, IN_THE_LOG)


def run_composed(task: Callable[[Run], Any], traceback_is: str | None) -> None:
    """The same for any task. `traceback_is` says where a failure's traceback is; None: it is written out."""

    @hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="train")
    def main(cfg: DictConfig) -> Any:
        hydra_config = HydraConfig.get()
        experiment = hydra_config.runtime.choices.get("experiments") or "default"
        run = Run(without_hydra(cfg), tuple(hydra_config.overrides.task), experiment)
        with ending(traceback_is):
            return task(run)

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing them its way
    sys.argv[1:] = _flags_first(sys.argv[1:])
    with ending(traceback_is):
        main()
    gc.freeze()  # the process ends here: its last collections would only look through all modules


def _flags_first(arguments: Sequence[str]) -> list[str]:
    """Hydra's parser wants overrides in one block: `model=tiny -m seed=0,1` -> `-m model=tiny seed=0,1`."""
    flags: list[str] = []
    overrides: list[str] = []
    for before, argument in pairwise(["", *arguments]):
        is_flag = argument.startswith("-") or TAKES_A_VALUE.fullmatch(before)
        (flags if is_flag else overrides).append(argument)
    return [*flags, *overrides]


@contextmanager
def ending(traceback_is: str | None = IN_THE_LOG) -> Iterator[None]:
    """Turn what went wrong into a message and an exit status."""
    try:
        yield
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        _exit(CONFIG_ERROR, explain(error, sys.argv[1:]))
    except GridFailed as error:
        _exit(FAILED, str(error))
    except KeyboardInterrupt:
        _exit(INTERRUPTED, "Interrupted. The same command starts the run again.")
    except BrokenPipeError:  # `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if NULL_OPTION in str(error):
            _exit(CONFIG_ERROR, explain(error, sys.argv[1:]))
        _exit(FAILED, f"{type(error).__name__}: {error}\n{traceback_is or traceback.format_exc()}")


def _exit(status: int, message: str) -> NoReturn:
    sys.stderr.write(f"{secrets.redact(message)}\n")
    sys.exit(status)
