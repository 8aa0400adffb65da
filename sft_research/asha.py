"""hydra/sweeper=asha: a search that trains every trial a little, and the best of them on, as far as a whole run.

halving.py says who goes on, suggestion.py what is tried next, search.py keeps what was decided, and the launcher's
engine runs it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from sft_research.asha_screen import screen
from sft_research.budgets import Rungs
from sft_research.composer import Composer
from sft_research.config import NOT_IDENTITY, ConfigError, Run, folder_name
from sft_research.console import speaking
from sft_research.launcher import Engine, launch
from sft_research.past_runs import GRIDS
from sft_research.search import Knobs, Search
from sft_research.suggestion import SAMPLERS, Space, space_of
from sft_research.typed import Typed

log = logging.getLogger("sft_research")
LENGTHS = ("training", "training.max_steps", "training.num_train_epochs")
ROWS = ("dataset", "dataset_format", "model", "model.name", "model.chat_template", "model.max_length")


def searched(search: Search, engine: Engine) -> list[JobReturn]:
    """Hydra's answer a trial. Raises what `launch` does, once the screen is written."""
    try:
        return launch(search, engine)
    finally:
        if search.trials:
            with speaking():
                log.info("%s", screen(search))


def search_of(overrides: Sequence[Override], knobs: Knobs, config: DictConfig) -> Search:
    """The search that was typed; raises ConfigError for one whose losses could not be held against each other."""
    typed, space = Typed(config), space_of(overrides)
    _require_in_range(knobs)
    _require_comparable(space, knobs.rungs)
    composer = Composer(typed.config_dir)
    run = composer(typed.whole(space.fixed), ())
    if run.cfg.dataset.get("held_out") == 0:
        raise ConfigError(
            "dataset.held_out=0, and a search compares held-out losses. Fix: dataset.held_out=0.1"
        )
    _require_to_be_resumed(run)
    _require_past_warm_up(run, knobs.rungs)
    # What another search would decide otherwise; trials and places may grow.
    of = f"asha-{knobs.sampler}-{knobs.seed}-{knobs.rungs.reduction}-{knobs.rungs.smallest:g}"
    folder = run.folder.parent / GRIDS / folder_name([o.input_line or "" for o in overrides], [of])
    return Search([], [], folder, typed.command, typed=typed, space=space, knobs=knobs, composer=composer)


def _require_in_range(knobs: Knobs) -> None:
    rungs = knobs.rungs
    rules = (
        ("trials", knobs.trials, _is_number(knobs.trials, 1, int), "1 or more"),
        ("reduction", rungs.reduction, _is_number(rungs.reduction, 2, int), "2 or more"),
        (
            "smallest",
            rungs.smallest,
            _is_number(rungs.smallest, 1e-6),
            "loss tokens, or a share of the steps",
        ),
        ("seed", knobs.seed, _is_number(knobs.seed, 0, int), "0 or more"),
        ("parallel", knobs.parallel, _is_number(knobs.parallel, 1, int), "1 or more"),
        ("sampler", knobs.sampler, knobs.sampler in SAMPLERS, " or ".join(SAMPLERS)),
    )
    for name, value, fits, fix in rules:
        if not fits:
            raise ConfigError(f"hydra.sweeper.{name}={value} cannot be. Fix: hydra.sweeper.{name}=..., {fix}")
    if rungs.top < 1:
        raise ConfigError(
            f"hydra.sweeper.smallest={rungs.smallest:g} and reduction={rungs.reduction} leave no budget below a whole "
            f"run, so that nothing is halved. Fix: hydra.sweeper.smallest={0.999 / rungs.reduction:.3g}"
        )


def _require_to_be_resumed(run: Run) -> None:
    """Each rung is the same command again: it goes on from the rung below, and pauses where the search says."""
    if run.cfg.rerun:
        raise ConfigError(
            "rerun=true starts a run over, and a search goes on with its runs from rung to rung. "
            "Fix: rerun=false, and runs_dir=... for a search from its beginning"
        )
    if run.cfg.pause_at is not None:
        raise ConfigError(
            f"pause_at={run.cfg.pause_at}, and a search says where its runs pause. "
            f"Fix: hydra.sweeper.smallest={run.cfg.pause_at}, its first budget, and pause_at=null"
        )


def _require_past_warm_up(run: Run, rungs: Rungs) -> None:
    first, warm_up = rungs.budget(0), run.cfg.training.get("warmup_steps") or 0
    if first is not None and first <= warm_up < 1:
        shares = [share for rung in range(1, 21) if (share := rungs.reduction**-rung) > warm_up]
        fix = f"hydra.sweeper.smallest={0.999 * shares[-1]:.3g}" if shares else "training.warmup_steps=0.1"
        raise ConfigError(
            f"the first budget, {first:.3g} of the steps, ends in the warm-up, {warm_up:g} of them, where all trials "
            f"are alike. Fix: {fix}"
        )


def _is_number(value: object, least: float, kind: type | tuple[type, ...] = (int, float)) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and value >= least  # type: ignore[operator]


def _require_comparable(space: Space, rungs: Rungs) -> None:
    for key in space.varied:
        if key == "seed":
            raise ConfigError(
                "seed varies, and a search would end with the luckiest. "
                "Fix: seed=0, and then its best points over seeds by hydra/sweeper=grid"
            )
        if key == "devices":
            raise ConfigError("devices varies, and every trial is given the same. Fix: devices=1, one value")
        if key.partition(".")[0] in NOT_IDENTITY:
            raise ConfigError(
                f"{key} changes no number of a run: two trials would write one folder. Fix: {key}=..., one value"
            )
        if key in ROWS or key.startswith(("dataset.", "dataset_format.")):
            raise ConfigError(
                f"{key} decides the rows, and a search holds losses on the same rows against each other. "
                f"Fix: {key}=..., one value, or hydra/sweeper=grid"
            )
        if key in LENGTHS and rungs.smallest < 1:
            raise ConfigError(
                f"{key} decides how long a run is, and hydra.sweeper.smallest={rungs.smallest} is a share of that. "
                "Fix: hydra.sweeper.smallest=LOSS_TOKENS, 1 or more"
            )
