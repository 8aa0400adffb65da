"""A comparison in the terminal: the answer, the ranking, what is not in it and why, and what to run next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from sft_research.comparison import Comparison, Ranked, Section
from sft_research.lacking import TO_COME, lacking
from sft_research.points import text
from sft_research.verdict import Verdict

WIDE = 100  # characters of a line; a command is never broken
SHOWN, LISTED, NAMED = (
    40,
    20,
    6,
)  # points of a table, failures below it, and points to come; the files have all
BOLD, DIM, YELLOW, RED, RESET = "\033[1m", "\033[2m", "\033[33m", "\033[31m", "\033[0m"


def screen(c: Comparison, verdict: Verdict, colour: bool, wide: int = WIDE) -> str:
    """Everything but curves; values of a stranger's folder hold no control characters by now."""

    def styled(said: str, style: str) -> str:
        return f"{style}{said}{RESET}" if colour else said

    lines = ["", *(styled(f"  {part}", BOLD) for part in wrap(verdict.title, wide - 2)), ""]
    for finding in verdict.findings:
        lines += [f"  {part}" for part in wrap(finding.text, wide - 2)]
        lines += [f"    {command}" for command in finding.commands]
    lines += [""] if verdict.findings else []
    for number, section in enumerate(c.sections):
        head = _contract(c) if not number else f"Not compared with these: {'; '.join(section.differs)}"
        lines += [
            styled(part, YELLOW if number else DIM)
            for part in wrap(head, wide, subsequent_indent="  ", initial_indent="  ")
        ]
        lines += [*_table(c, section), ""]
    lines += [styled(f"  {part}", colour) for part, colour in _not_there(c)]
    lines += [styled(f"  {part}", YELLOW) for note in c.notes for part in wrap(note, wide - 2)]
    return "\n".join(lines).rstrip("\n") + "\n\n"


def _contract(c: Comparison) -> str:
    return "Same for all: " + "; ".join(f"{name} {value}" for name, value in c.contract)


def _table(c: Comparison, section: Section) -> Iterator[str]:
    keys = [key for key in c.keys if len(str(key)) < 60] if len(c.keys) <= 6 else []
    shown = section.ranked[:SHOWN]
    heads = ["", *(key.removeprefix("training.") for key in keys or ["point"]), "mean", "spread", "seeds", ""]
    rows = [_cells(c, place, row, keys) for place, row in enumerate(shown, start=1)]
    wide = [max(len(cells[at]) for cells in [heads, *rows]) for at in range(len(heads))]
    for cells in [heads, *rows]:
        yield (
            "  "
            + "  ".join(cell.rjust(width) for cell, width in zip(cells[:-1], wide, strict=False))
            + f"  {cells[-1]}".rstrip()
        )
    if len(section.ranked) > SHOWN:
        yield f"  and {len(section.ranked) - SHOWN} more"


def _cells(c: Comparison, place: int, row: Ranked, keys: Sequence[str]) -> list[str]:
    settings = [text(row.point.settings[key]) for key in keys] or [row.point.label]
    sd = "" if row.spread is None else c.metric.shown(row.spread)
    rank = str(place) if row.is_whole else "-"
    return [rank, *settings, c.metric.shown(row.mean), sd, str(len(row.values)), row.note]


def _not_there(c: Comparison) -> Iterator[tuple[str, str]]:
    """(line, colour)"""
    for state, lines in lacking(c):
        colour = RED if state in ("failed", "absent", "unfinished") else DIM if state in TO_COME else YELLOW
        most = LISTED if state not in (*TO_COME, "never started") else NAMED
        for said in lines[:most]:
            yield f"{state:<13} {said}", colour
        if len(lines) > most:
            yield f"{'':<13} and {len(lines) - most} more such points", colour
