"""A preview as one self-contained HTML page: no script, no request, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from sft_research.counts import Split, histogram, percentiles
from sft_research.document import document
from sft_research.look import Preview, Shown
from sft_research.tables import Table, tables, warnings
from sft_research.visible import Gap, Piece, elided

KEPT = 1000  # tokens at either end of a long stretch of one kind
BARS = 40
WIDTH, HEIGHT, LEFT, BELOW, ABOVE = 480, 130, 8, 18, 16  # of a histogram and of its margins, in pixels


def page(preview: Preview) -> str:
    """Everything the screen says; a token under the pointer says its number and place."""
    rows, lengths, packings = tables(preview)
    histograms = "".join(_histogram(split, preview.max_length) for split in preview.splits)
    said = "".join(f"<li>{escape(warning)}</li>" for warning in warnings(preview))
    body = [
        f"<h1><small>Preview of</small> {escape(preview.title)}</h1>",
        f'<p class="faint">What the model sees: {escape(preview.source)} as tokens of {escape(preview.model)}, '
        f"rows of up to {preview.max_length:,} tokens</p>",
        _facts(preview),
        f'<ul class="warnings">{said}</ul>' if said else "",
        "<h2>Rows, token by token</h2>",
        _legend(),
        *(_example(shown, preview) for shown in preview.examples),
        f'<div class="two"><div>{_table(rows)}</div><div>{_table(lengths)}{histograms}</div></div>',
        _table(packings),
        f"<footer>Made by<pre>{escape(preview.command)}</pre></footer>",
    ]
    return document(f"{preview.title}: preview", "\n".join(body), ["page.css"])


def _facts(preview: Preview) -> str:
    train = preview.splits[0]
    facts = [
        (f"{train.rows:,}", "training examples"),
        (f"{train.tokens:,}", "tokens an epoch"),
        (f"{train.share_trained:.1%}", "of them trained"),
        (f"{percentiles(train.lengths)[1]:,}", "tokens, the median row"),
    ]
    own = [packed for packed in preview.packings if packed.option == preview.packing]
    facts += [(f"{packed.padding:.1%}", f"padding, packing={packed.option}") for packed in own]
    return f'<div class="facts">{"".join(f"<div><b>{n}</b>{escape(what)}</div>" for n, what in facts)}</div>'


def _legend() -> str:
    return (
        '<p class="legend"><span><i class="t">trained</i> the loss counts it</span> '
        "<span><i>context</i> without loss</span> "
        '<span><i class="s">&lt;|special|&gt;</i> one token</span> '
        '<span><i class="one">to</i><i class="even">kens</i> in two shades</span> '
        "<span>↵ newline</span> <span>· space</span> <span>é² one text of two tokens</span></p>"
    )


def _example(shown: Shown, preview: Preview) -> str:
    full = ", as long as model.max_length" if shown.tokens == preview.max_length else ""
    tokens = "".join(
        f"<b>… {piece.count:,} tokens …</b>" if isinstance(piece, Gap) else _token(piece, preview.with_ids)
        for piece in elided(shown.pieces, KEPT)
    )
    return (
        f"<h3>Example {shown.number:,} of {preview.splits[0].rows:,}, {shown.standing} <span>"
        f"{shown.tokens:,} tokens, {shown.loss_tokens:,} trained{full}</span></h3>"
        f'<div class="row">{tokens.rstrip()}</div>'
    )


def _token(piece: Piece, with_ids: bool) -> str:
    """The newline comes after the element: inside, it would paint the start of the next line."""
    kinds = " ".join(name for name, is_so in (("t", piece.trained), ("s", piece.special)) if is_so)
    what = f"token {piece.at:,}: {', '.join(map(str, piece.ids)) or 'struck out'}"
    ids = f"<sub>{','.join(map(str, piece.ids))}</sub>" if with_ids else ""
    text = escape(piece.shown())
    inside, newline = (text[:-1], "\n") if text.endswith("\n") else (text, "")
    return f'<i{f" class={kinds!r}" if kinds else ""} title="{what}">{inside}{ids}</i>{newline}'


def _table(table: Table) -> str:
    heads = "".join(f"<th>{escape(head)}</th>" for head in table.heads)
    rows = "".join(
        f"<tr{' class=marked' if name == table.marked else ''}><td>{escape(name)}</td>"
        f"{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"
        for name, values in table.rows
    )
    note = f" <span>{escape(table.note)}</span>" if table.note else ""
    return (
        f"<h2>{escape(table.title)}{note}</h2>"
        f'<div class="scroll"><table><tr><th></th>{heads}</tr>{rows}</table></div>'
    )


def _histogram(split: Split, max_length: int) -> str:
    """Bars, an axis in round numbers, and model.max_length where rows come near it."""
    bars = histogram(split.lengths, BARS)
    low, high = bars[0].low, bars[-1].high + 1
    most = max(bar.count for bar in bars)

    def x(tokens: int) -> float:
        return LEFT + (tokens - low) / (high - low) * (WIDTH - 2 * LEFT)

    floor = HEIGHT - BELOW
    drawn = [f'<line x1="{LEFT}" x2="{WIDTH - LEFT}" y1="{floor}" y2="{floor}"/>']
    for bar in bars:
        tall = bar.count / most * (floor - ABOVE)
        left, right = x(bar.low), x(bar.high + 1)
        drawn.append(
            f'<rect x="{left:.1f}" y="{floor - tall:.1f}" width="{max(right - left - 1, 0.5):.1f}" '
            f'height="{tall:.1f}"><title>{bar.low:,} to {bar.high:,} tokens: {bar.count:,} rows</title></rect>'
        )
    drawn += [
        f'<text x="{x(at):.1f}" y="{HEIGHT - 4}" text-anchor="middle">{at:,}</text>'
        for at in _ticks(low, high)
    ]
    if low < max_length <= high:
        at = x(max_length)
        drawn.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{ABOVE}" y2="{floor}"/>')
        drawn.append(f'<text class="mark" x="{at:.1f}" y="{ABOVE - 5}" text-anchor="end">max_length</text>')
    label = f"{escape(split.name)}: rows by tokens, up to {most:,} a bar"
    return (
        f'<figure><figcaption>{label}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{label}">{"".join(drawn)}</svg></figure>'
    )


def _ticks(low: int, high: int) -> Iterator[int]:
    """About five round numbers from `low` to `high`."""
    step = next(s * 10**p for p in range(12) for s in (1, 2, 5) if (high - low) / (s * 10**p) <= 6)
    yield from range(-(-low // step) * step, high + 1, step)
