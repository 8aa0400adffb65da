"""Fine-tune one language model.

python -m sft_research.train                          # the defaults in conf/train.yaml
python -m sft_research.train model=qwen3 lora.r=32    # swap parts, change values
python -m sft_research.train -m lora.r=8,16,32        # a grid, one process a run
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from sft_research import determinism, devices, environment, identity, other_ranks, ranks, result, stopping
from sft_research.check import check
from sft_research.command import command
from sft_research.config import ConfigError, Run, build
from sft_research.console import captured, library_bars_off, speaking
from sft_research.evaluate import Judge
from sft_research.held_out import NAME as HELD_OUT
from sft_research.lora import Lora
from sft_research.model import Model
from sft_research.pausing import Pause, Paused, paused
from sft_research.record import Folder
from sft_research.recording import about, recording
from sft_research.result import Result
from sft_research.summary import report
from sft_research.tokens import Data

log = logging.getLogger(__name__)
FINISHED = "This run is finished already; rerun=true starts it over."


def train(run: Run) -> Result:
    """Check, identify, train and record one run; one that is finished is only reported, one that was stopped goes on.

    Raises ConfigError, before anything heavy is imported, for what cannot work, and Paused at `pause_at`.
    """
    check(run.cfg)
    if run.cfg.plan:
        raise ConfigError("plan=true prints and trains nothing, so there is no result. Fix: plan=false")
    folder = Folder(run)
    if not ranks.first():
        return take_part(run, folder)
    with stopping.listening(), speaking() as console:
        done, note = folder.finished(), FINISHED
        if not done and (noted := paused(run, run.cfg.pause_at)):
            raise Paused(noted)
        if not done:
            with folder.open() as done, determinism.asked_for(run.cfg.deterministic):
                if not done:
                    with other_ranks.beside(run, folder.leave), devices.joined(run):
                        done, note = fine_tune(run, folder, console), ""
        report(done, note)
        return done


def fine_tune(run: Run, folder: Folder, console: IO[str]) -> Result:
    """rows -> model -> evaluate -> train -> evaluate -> record, the cheapest step first."""
    started = time.perf_counter()
    cfg = run.cfg
    backend, model, adapter = build(cfg.backend), build(cfg.model), build(cfg.lora)
    log.info("%s\nLoading %s through %s ...", folder.path, model.name, type(backend).__name__)
    with uncollected():
        backend.activate()  # Unsloth, before trl, transformers and peft
        from transformers import set_seed

        from sft_research.metrics import Metrics
        from sft_research.preflight import Preflight
        from sft_research.training import build_trainer

    set_seed(cfg.seed)  # before the model: TRL's own seed comes after LoRA's weights are drawn
    data = rows(run, folder, model)
    preflight = Preflight(run, data, adapter)
    with library_bars_off():
        weights = backend.load(model, adapter, data.added_tokens, len(data.tokenizer), cfg.seed)

    constant = {"lora/scale": adapter.scale} if isinstance(adapter, Lora) else {}
    told = about(run, folder, adapter)
    recorded = recording(build(cfg.tracking), told)
    with library_bars_off(), stopping.at_safe_points(), recorded as tracker, other_ranks.raising():
        trainer = build_trainer(run, weights, data, str(folder / "checkpoints"))
        preflight.before(trainer)
        metrics = Metrics(folder, tracker, trainer, console, constant)
        how = build(cfg.evaluation)
        judge = Judge(weights, data, how, model.think_tags, console, folder.note, folder / HELD_OUT)
        # Where a run goes on, the losses of rows that lie there are of later weights.
        first = replace(judge, file=None) if folder.checkpoint else judge
        before = folder.scores_before(lambda: first("before training"))
        if not folder.checkpoint:
            metrics.record_scores(before)
        set_seed(cfg.seed)  # again: a run that goes on has not judged
        trainer.pause = Pause(cfg.pause_at, folder, trainer, metrics.held_out_loss_now)
        with closing(metrics):
            trainer.train(resume_from_checkpoint=ranks.by_first(lambda: folder.checkpoint))
        with trainer.saving_when_stopped():
            after = judge("after training", known_loss=ranks.by_first(metrics.held_out_loss_now))
        metrics.record_scores(after)
        folder.save(weights, data.tokenizer, before.answers, after.answers)
        seconds = metrics.earlier + time.perf_counter() - started
        return folder.finish(data, metrics, before.scores, after.scores, tracker.where(), seconds)


def take_part(run: Run, folder: Folder) -> Result:
    """What each other rank of a run on several devices does: the same rows, weights and steps. It writes nothing but
    its random states into checkpoints, and says nothing; `ranks.by_first` gives it what rank 0 knows."""
    if done := folder.finished():
        return done
    if noted := paused(run, run.cfg.pause_at):
        raise Paused(noted)
    cfg = run.cfg
    backend, model, adapter = build(cfg.backend), build(cfg.model), build(cfg.lora)
    with (
        stopping.listening(stopping.heed),
        captured(Path(os.devnull)) as nowhere,
        determinism.asked_for(cfg.deterministic),
        devices.joined(run),
    ):
        backend.activate()
        from transformers import set_seed

        from sft_research.overlap import trained_on
        from sft_research.preflight import Preflight
        from sft_research.prepare import prepare
        from sft_research.training import build_trainer

        set_seed(cfg.seed)
        ranks.wait()
        data = trained_on(cfg.on_overlap, prepare(cfg, *model.tokenizer()).data, model.max_length)
        preflight = Preflight(run, data, adapter)
        weights = backend.load(model, adapter, data.added_tokens, len(data.tokenizer), cfg.seed)
        trainer = build_trainer(run, weights, data, str(folder / "checkpoints"))
        preflight.before(trainer)
        judge = Judge(weights, data, build(cfg.evaluation), model.think_tags, nowhere, lambda _: None)
        folder.scores_before(lambda: judge("before training"))
        set_seed(cfg.seed)
        ranks.draw_apart(cfg.seed)
        trainer.pause = Pause(cfg.pause_at, folder, trainer, lambda: None)
        trainer.train(resume_from_checkpoint=ranks.by_first(lambda: None))
        with trainer.saving_when_stopped():
            judge("after training", known_loss=ranks.by_first(lambda: None))
    return result.read(folder / "result.json")


def rows(run: Run, folder: Folder, model: Model) -> Data:
    """dataset -> dataset_format -> tokens; raises ConfigError where they, or the memory they need, are not there."""
    from sft_research.overlap import trained_on
    from sft_research.plan import require_room
    from sft_research.prepare import prepare

    model.require_positions()
    prepared = prepare(run.cfg, *model.tokenizer())
    folder.list_bad_rows([*prepared.data.train.bad, *prepared.data.held_out.bad])
    folder.describe(environment.describe(prepared.fingerprint, identity.model_revision(run)))
    data = trained_on(run.cfg.on_overlap, prepared.data, model.max_length)
    require_room(run.cfg, data)
    ranks.wait()  # for those that now find the rows in the cache
    return data


@contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage collection: torch and trl make a million objects that live to the end, and looking
    through them again and again is a tenth of their import."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


if __name__ == "__main__":
    command(train)
