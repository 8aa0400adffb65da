"""A real browser, without a window: it opens a page, does what a script says, and tells what it saw.

Debian's Chromium, else Chrome; a test that needs one is skipped, with the reason, where there is neither.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from base64 import b64encode
from html import unescape
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FOUND = next((path for name in NAMES if (path := shutil.which(name))), None)
needed = pytest.mark.skipif(FOUND is None, reason=f"no browser: none of {', '.join(NAMES)} is installed")


OUTER = """<!doctype html><html lang="en"><meta name="color-scheme" content="light dark"><script>
onmessage = (event) => (document.documentElement.dataset.said = event.data);
</script><iframe src="page.html" width="{width}" height="900" style="border:0"></iframe></html>"""


def opened(page: str, script: str, place: Path, width: int = 1200, dark: bool = False) -> Any:
    """What `script`, the body of a function, returns in the opened page; fails on any error of the page.

    The page lies in a frame: a window of its own is never narrower than 500 pixels.
    """
    assert FOUND
    body = f"parent.postMessage(JSON.stringify((() => {{{script}}})()), '*');"
    allowed = b64encode(hashlib.sha256(body.encode()).digest()).decode()
    assert "script-src 'sha256-" in page
    page = page.replace("script-src '", f"script-src 'sha256-{allowed}' '", 1)
    place.mkdir(exist_ok=True)
    (place / "page.html").write_text(page.replace("</body>", f"<script>{body}</script></body>"), "utf-8")
    (place / "outer.html").write_text(OUTER.format(width=width))
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--enable-logging=stderr",
    ]
    flags += [
        f"--window-size={width + 100},1000",
        f"--user-data-dir={place / 'profile'}",
        "--virtual-time-budget=3000",
    ]
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
    outer = (place / "outer.html").resolve().as_uri()
    done = subprocess.run([FOUND, *flags, "--dump-dom", outer], capture_output=True, text=True, timeout=120)
    errors = [text for text in done.stderr.splitlines() if "CONSOLE" in text]
    assert errors == []
    said = re.search(r'data-said="([^"]*)"', done.stdout)
    assert said, done.stderr[-2000:] + done.stdout[:2000]
    return json.loads(unescape(said[1]))
