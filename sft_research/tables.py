"""A preview's numbers as tables and warnings, the same on the screen and on the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sft_research.counts import percentiles
from sft_research.look import Preview

BAD_SHOWN = 3


@dataclass(frozen=True)
class Table:
    title: str
    heads: list[str]
    rows: list[tuple[str, list[str]]]  # (what, its values)
    marked: str = ""  # the row that is this run's
    note: str = ""


def tables(preview: Preview) -> list[Table]:
    return [_rows(preview), _lengths(preview), _packings(preview)]


def _rows(preview: Preview) -> Table:
    splits = preview.splits
    rows = [
        ("examples", [f"{s.rows:,}" for s in splits]),
        ("tokens", [f"{s.tokens:,}" for s in splits]),
        ("trained tokens", [f"{s.loss_tokens:,}" for s in splits]),
        ("trained share", [f"{s.share_trained:.1%}" for s in splits]),
        ("cut at model.max_length", [f"{s.truncated:,}" for s in splits]),
        ("answers that lose their end", [f"{s.answers_cut:,}" for s in splits]),
        ("left out, no answer fits", [f"{s.dropped:,}" for s in splits]),
        ("left out, bad rows", [f"{s.bad:,}" for s in splits]),
        ("repeats of an earlier row", [f"{s.duplicates:,}" for s in splits]),
    ]
    if len(splits) > 1:
        rows.append(("also among the training rows", ["", f"{preview.overlap:,}"]))
    return Table("Rows", [s.name for s in splits], rows)


def _lengths(preview: Preview) -> Table:
    rows = []
    for split in preview.splits:
        for name, lengths in ((split.name, split.lengths), (f"{split.name}, trained part", split.trained)):
            rows.append((name, [f"{value:,}" for value in percentiles(lengths)]))
    return Table("Tokens a row", ["p5", "p50", "p95", "max"], rows)


def _packings(preview: Preview) -> Table:
    rows = [
        (
            packed.option,
            [
                f"{packed.rows:,}",
                f"{packed.steps:,}",
                f"{packed.tokens_a_step:,.0f}",
                f"{packed.padding:.1%}",
                f"{packed.largest:,}",
                f"{packed.cut:,}",
            ],
        )
        for packed in preview.packings
    ]
    batches = preview.batches
    return Table(
        "One epoch with each packing",
        ["rows", "steps", "tokens/step", "padding", "largest batch", "cut apart"],
        rows,
        preview.packing,
        f"{batches.size} rows a batch, {batches.accumulation} batches a step, one device",
    )


def warnings(preview: Preview) -> Iterator[str]:
    """What a reader should not miss, and what to do about it."""
    for split in preview.splits:
        if lost := split.truncated + split.dropped:
            yield f"{lost:,} {split.name} rows do not fit. Fix: model.max_length={2 * preview.max_length}"
        if split.duplicates:
            yield f"{split.duplicates:,} {split.name} rows repeat an earlier one, token for token."
    if preview.overlap:
        yield f"{preview.overlap:,} held-out rows are training rows too: preflight refuses a run. Fix: on_overlap=drop"
    if preview.bad:
        yield f"{len(preview.bad):,} bad rows are left out:"
        yield from (f"{row.where}: {row.reason:.160}" for row in preview.bad[:BAD_SHOWN])
