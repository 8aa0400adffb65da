"""What a person reads at the end of a run, in the terminal and as the folder's README.md."""

from __future__ import annotations

import logging

from sft_research.result import Result

log = logging.getLogger("sft_research")


def report(result: Result, note: str = "") -> None:
    log.info("%s%s", f"{note}\n" if note else "", screen(result))


def screen(result: Result) -> str:
    """The closing screen, at most 80 columns where paths allow it."""
    lines = [
        "",
        f"  {result.experiment} / {result.name}",
        f"  {result.model} through {result.backend}",
        "",
        f"  {'':<28}{'before':>10}{'after':>10}",
        *(f"  {name:<28}{a:>10}{b:>10}" for name, a, b in scores(result)),
        f"  {'training loss, first / last':<28}{result.loss_first:>10.3f}{result.loss_last:>10.3f}",
        "",
        f"  {result.steps} steps in {clock(result.train_seconds)}, {clock(result.seconds)} in all; "
        f"{result.tokens_per_second:,.0f} real tokens/s; {result.peak_memory_gib:.1f} GiB",
        *([f"  on {result.devices} devices, with this memory on each"] if result.devices > 1 else []),
        f"  {result.tokens:,} tokens, {result.loss_tokens:,} with loss; "
        f"{result.trainable_parameters:,} weights trained{_scale(result)}",
        *_lost(result),
        *(f"  {line}" for line in _unproven(result)),
        "",
        f"  weights   {result.weights}",
        f"  curves    {result.folder}/curves.png",
        f"            {result.curves}",
        f"  next      {next_command(result)}",
        "",
    ]
    return "\n".join(lines)


def scores(result: Result) -> list[tuple[str, str, str]]:
    """(what, before, after), only what was measured."""
    before, after = result.before, result.after
    rows = [("held-out loss per token", _number(before.loss), _number(after.loss))]
    if after.exact_match is not None:
        right = f"right answers of {after.questions}"
        rows.append(
            (right, _count(before.exact_match, before.questions), _count(after.exact_match, after.questions))
        )
    if after.form is not None:
        rows.append(("answers in the right form", _share(before.form), _share(after.form)))
    return rows


def card(result: Result) -> str:
    """The folder's README.md: numbers, picture and the command that repeats it."""
    table = "\n".join(f"| {name} | {a} | {b} |" for name, a, b in scores(result))
    bad = f" Left out as bad: {result.rows_bad} rows, listed in bad_rows.jsonl." if result.rows_bad else ""
    unproven = "".join(f" {line}" for line in _unproven(result))
    peak = f"{result.peak_memory_gib:.1f} GiB at the peak"
    peak += f" on each of {result.devices} devices" if result.devices > 1 else ""
    return f"""# {result.experiment} / {result.name}

`{result.model}` fine-tuned through {result.backend} for {result.steps} steps on {result.rows:,} rows
({result.tokens:,} tokens, {result.loss_tokens:,} with loss). Held out: {result.held_out_rows} rows.{bad}{unproven}

| | before | after |
|---|--:|--:|
{table}
| training loss, first and last step | {result.loss_first:.3f} | {result.loss_last:.3f} |

![Curves](curves.png)

Training took {clock(result.train_seconds)} of {clock(result.seconds)} in all, {result.tokens_per_second:,.0f} real
tokens/s, {peak}. The machine and the versions are in `environment.json`, every
logged value in `metrics.jsonl`, answers in `samples.jsonl`.

    {result.command}
"""


def next_command(result: Result) -> str:
    return f"{result.command} lora.r=32" if result.lora_scale else f"{result.command} lora=default"


def clock(seconds: float) -> str:
    """83 -> '1 min 23 s', 7384 -> '2 h 3 min'."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _lost(result: Result) -> list[str]:
    said = []
    if result.rows_truncated or result.rows_dropped:
        said += [
            f"  {result.rows_truncated} rows cut at model.max_length, {result.rows_dropped} left out whole"
        ]
    if result.rows_bad:
        said += [f"  {result.rows_bad} bad rows left out: {result.folder}/bad_rows.jsonl"]
    return said


def _unproven(result: Result) -> list[str]:
    said = "Preflight was off: masks, packing, LoRA and optimizer are not proven."
    return [said] if result.preflight == "off" else []


def _scale(result: Result) -> str:
    return f", LoRA scale {result.lora_scale:g}" if result.lora_scale else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _count(share: float | None, of: int) -> str:
    return "" if share is None else f"{share * of:.0f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
