"""What the model will see: rows as tokens with the loss mask in colour, then what they add up to.

python -m sft_research.preview                                    # the defaults in conf/train.yaml
python -m sft_research.preview dataset=gsm8k dataset.path=FOLDER  # the overrides are those of train
python -m sft_research.preview --out page.html                    # the same as one page, to share
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from sft_research import secrets
from sft_research.check import check
from sft_research.command import ending, run_composed
from sft_research.config import ConfigError, Run
from sft_research.console import captured, speaking

EPILOG = """\
Every override of a run is one of its preview: groups and keys are listed by
  python -m sft_research.train --help
The tokens are made and kept as training does, without the weights; the run then finds them."""


def preview(run: Run, options: argparse.Namespace, command: str) -> None:
    """Check as training does, tokenize as training does, and show it.

    Raises ConfigError, before anything heavy is imported, for what cannot work.
    """
    secrets.load()
    check(run.cfg)
    _require_place(options.out)
    with speaking() as console:
        with captured(Path(os.devnull)):
            from sft_research.look import look
            from sft_research.screen import screen

            made = look(run, options.examples, options.ids, command)
        console.write(secrets.redact(screen(made, _in_colour())))
        if options.out:
            from sft_research.page import page

            _write(options.out, secrets.redact(page(made)))
            console.write(f"  page      {options.out}\n\n")
        console.flush()


def _in_colour() -> bool:
    """https://no-color.org: any value of NO_COLOR but an empty one means none."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _require_place(out: Path | None) -> None:
    if out and (out.is_dir() or not out.parent.is_dir()):
        fact = "is a folder" if out.is_dir() else f"is in {out.parent}, and there is no such folder"
        raise ConfigError(f"--out {out} {fact}. Fix: --out preview.html")


def _write(out: Path, text: str) -> None:
    """Whole or not at all: written beside, then renamed."""
    beside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, "utf-8")
        os.replace(beside, out)
    finally:
        beside.unlink(missing_ok=True)


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our own flags, and what is left for Hydra."""
    assert __doc__
    parser = argparse.ArgumentParser(
        "python -m sft_research.preview",
        "%(prog)s [override ...] [--examples N] [--ids] [--out PAGE.html] [--config-dir FOLDER]",
        __doc__,
        EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--examples", type=int, default=3, metavar="N", help="rows shown, 3 where not said")
    parser.add_argument("--ids", action="store_true", help="with the number of every token")
    parser.add_argument("--out", type=Path, metavar="PAGE.html", help="write one self-contained page too")
    parser.add_argument("--config-dir", metavar="FOLDER", help="options of your own, as in train")
    options, rest = parser.parse_known_args(arguments)
    if options.config_dir:
        rest += ["--config-dir", options.config_dir]
    return options, rest


def main() -> None:
    command = shlex.join(["python", "-m", "sft_research.preview", *sys.argv[1:]])
    with ending(show_traceback=True):
        options, sys.argv[1:] = _parse(sys.argv[1:])
        if options.examples < 0:
            raise ConfigError(f"--examples {options.examples} is no number of rows. Fix: --examples 3")
        if {"-m", "--multirun"} & set(sys.argv[1:]):
            raise ConfigError("a preview is of one run, and -m makes several. Fix: leave out -m")
    run_composed(lambda run: preview(run, options, command), show_traceback=True)


if __name__ == "__main__":
    main()
