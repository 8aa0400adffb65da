"""One self-contained HTML file: its head, its styles, and at most one script. Nothing in it is fetched."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def document(
    title: str, body: str, styles: Sequence[str], scripts: Sequence[str] = (), data: Any = None
) -> str:
    """`body` between head and end; `styles` and `scripts` are files beside this one, `data` what the script reads.

    A policy lets the script run and nothing else, whatever texts the page holds: it allows its SHA-256 alone
    (Content Security Policy, level 2), and no address at all.
    """
    script = "\n".join((HERE / name).read_text("utf-8") for name in scripts)
    allowed = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "default-src 'none'; style-src 'unsafe-inline'" + (
        f"; script-src 'sha256-{allowed}'" if script else ""
    )
    style = "\n".join((HERE / name).read_text("utf-8") for name in styles)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
{body}
{_script(script, data) if script else ""}</body>
</html>
"""


def _script(script: str, data: Any) -> str:
    # `<` in a text would end the script element that holds it.
    held = json.dumps(data, separators=(",", ":"), default=str).replace("<", "\\u003c")
    return f'<script type="application/json" id="data">{held}</script>\n<script>{script}</script>\n'
