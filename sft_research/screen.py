"""A preview in the terminal: the mask as background colours, or as brackets where there are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sft_research.counts import Split, histogram
from sft_research.look import Preview, Shown
from sft_research.tables import Table, tables, warnings
from sft_research.visible import Gap, Piece, elided

KEPT = 150  # tokens at either end of a long stretch of one kind
BARS, WIDEST = 12, 40  # of the histogram: rows of text, and characters
# Foreground and background both, so that it reads on a light terminal as on a dark one. Two shades of a
# background take turns: where they change, a token ends.
CONTEXT = ("38;5;250;48;5;234", "38;5;250;48;5;238")
TRAINED = ("1;38;5;231;48;5;22", "1;38;5;231;48;5;28")
SPECIAL = ";38;5;221"
BOLD, DIM, YELLOW, RESET = "\033[1m", "\033[2m", "\033[33m", "\033[0m"


def screen(preview: Preview, colour: bool) -> str:
    """Everything; at most 80 columns but for the examples, which the terminal wraps."""
    rows, lengths, packings = (_table(table, colour) for table in tables(preview))
    lines = [
        "",
        f"  {_style(preview.title, BOLD, colour)}",
        f"  {preview.source} as tokens of {preview.model}, rows of up to {preview.max_length:,}",
        "",
        f"  {_legend(colour)}",
        *(line for shown in preview.examples for line in _example(shown, preview, colour)),
        "",
        *rows,
        "",
        *lengths,
        "",
        *_histogram(preview.splits[0], colour),
        "",
        *packings,
        "",
        *(f"  {_style(f'! {warning}', YELLOW, colour)}" for warning in warnings(preview)),
    ]
    return "\n".join(lines).rstrip("\n") + "\n\n"


def _style(text: str, style: str, colour: bool) -> str:
    return f"{style}{text}{RESET}" if colour else text


def _legend(colour: bool) -> str:
    if not colour:
        return "⟦trained: the loss counts it⟧  the rest is context  │ between tokens  é² one text of two"
    kinds = [
        ("trained: the loss counts it", TRAINED[0]),
        ("context", CONTEXT[0]),
        ("<|special|>", CONTEXT[0] + SPECIAL),
        ("to", CONTEXT[0]),
        ("kens", CONTEXT[1]),
    ]
    *alone, one, other = [f"\033[{style}m{text}{RESET}" for text, style in kinds]
    return "  ".join([*alone, one + other, "é² one text of two"])


def _example(shown: Shown, preview: Preview, colour: bool) -> Iterator[str]:
    head = f"Example {shown.number:,} of {preview.splits[0].rows:,}, {shown.standing}"
    full = ", as long as model.max_length" if shown.tokens == preview.max_length else ""
    size = f"{shown.tokens:,} tokens, {shown.loss_tokens:,} trained{full}"
    yield from ("", f"  {_style(head, BOLD, colour)}: {size}", "")
    row = elided(shown.pieces, KEPT)
    text = coloured(row, preview.with_ids) if colour else bracketed(row, preview.with_ids)
    yield from (f"  {line}" for line in text.rstrip("\n").split("\n"))


def coloured(row: Sequence[Piece | Gap], with_ids: bool) -> str:
    """A newline is never inside of a colour: the terminal would paint the rest of the line."""
    parts = []
    for number, piece in enumerate(row):
        if isinstance(piece, Gap):
            parts.append(f"{DIM} … {piece.count:,} tokens … {RESET}")
            continue
        style = (TRAINED if piece.trained else CONTEXT)[number % 2] + (SPECIAL if piece.special else "")
        lines = piece.shown(with_ids).split("\n")
        parts.append("\n".join(f"\033[{style}m{line}{RESET}" if line else "" for line in lines))
    return "".join(parts)


def bracketed(row: Sequence[Piece | Gap], with_ids: bool) -> str:
    """`│` between two tokens, `⟦ ⟧` around those with a loss."""
    text, before = "", False
    for piece in row:
        said = f"… {piece.count:,} tokens …" if isinstance(piece, Gap) else piece.shown(with_ids)
        if piece.trained != before:
            said = f"{'⟦' if piece.trained else '⟧'}{said}"
        elif text and not text.endswith("\n"):
            said = f"│{said}"
        text, before = text + said, piece.trained
    return text.rstrip("\n") + "⟧" if before else text


def _table(table: Table, colour: bool) -> Iterator[str]:
    columns = [
        max(len(head), *(len(values[at]) for _, values in table.rows)) + 2
        for at, head in enumerate(table.heads)
    ]
    first = max(len(name) for name, _ in table.rows)
    yield f"  {_style(table.title, BOLD, colour)}{f'  ({table.note})' if table.note else ''}"
    yield f"    {'':<{first}}" + "".join(f"{h:>{w}}" for h, w in zip(table.heads, columns, strict=True))
    for name, values in table.rows:
        line = f"{name:<{first}}" + "".join(f"{v:>{w}}" for v, w in zip(values, columns, strict=True))
        yield f"  {_style('> ' + line, BOLD, colour)}" if name == table.marked else f"    {line}"


def _histogram(split: Split, colour: bool) -> Iterator[str]:
    bars = histogram(split.lengths, BARS)
    most = max(bar.count for bar in bars)
    yield f"  {_style('Training rows by tokens', BOLD, colour)}"
    for bar in bars:
        drawn = "█" * (bar.count * WIDEST // most) or ("▏" if bar.count else "")
        yield f"    {f'{bar.low:,} to {bar.high:,}':>16}  {drawn} {bar.count:,}"
