"""Which run is best, by how much, and is it more than chance: a table, the verdict, and a page of curves.

python -m sft_research.compare runs/lora_rank             # a grid, half finished or whole
python -m sft_research.compare runs/a runs/b --out seen   # with page, pictures, CSV and JSON
python -m sft_research.compare runs/lora_rank/grids/lora.r=4,16                   # one grid's points alone
python -m sft_research.compare runs/lora_rank --wandb my_team/sft_research        # and a report on W&B
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from sft_research import secrets
from sft_research.command import ending
from sft_research.compare_screen import screen
from sft_research.comparison import compare
from sft_research.config import ConfigError
from sft_research.contract import ACROSS
from sft_research.past_grids import find
from sft_research.points import METRICS
from sft_research.verdict import verdict

EPILOG = """\
Runs are compared where held-out rows, loss tokens, seeds, effective batch and schedule are the same. Others are
listed with what differs, and nothing is averaged across. Where the difference is the question, as of two packings:
  python -m sft_research.compare runs/packing --across tokens --across batch --across schedule
Runs that differ in their seed alone are one point. FOLDER is one run's folder or one of many."""


def show(options: argparse.Namespace, command: str) -> None:
    """Read, compare, say it, and write it down; raises ConfigError for what cannot be compared."""
    if options.out and options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"--out {options.out} is a file. Fix: --out FOLDER")
    if options.wandb:
        from sft_research.compare_report import place_of, save

        place = place_of(options.wandb)
    runs = find(options.folders)
    compared = compare(runs, METRICS[options.metric], options.across)
    answer = verdict(compared)
    wide = min(max(shutil.get_terminal_size((100, 24)).columns, 60), 120)
    sys.stdout.write(secrets.redact(screen(compared, answer, _in_colour(), wide)))
    if options.out:
        from sft_research.compare_files import write

        written = write(options.out, compared, answer, command)
        sys.stdout.write("".join(f"  {name:<9} {file}\n" for name, file in written) + "\n")
    if options.wandb:
        sys.stdout.write(f"  {'report':<9} {save(compared, answer, place, command)}\n\n")


def _in_colour() -> bool:
    """https://no-color.org: any value of NO_COLOR but an empty one means none."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(
        "python -m sft_research.compare",
        "%(prog)s FOLDER [FOLDER ...] [--metric NAME] [--across NAME] [--out FOLDER] [--wandb ENTITY/PROJECT]",
        __doc__,
        EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="runs, or folders of runs")
    parser.add_argument("--metric", choices=METRICS, default="loss", help="held-out loss where not said")
    parser.add_argument(
        "--across", choices=ACROSS, action="append", default=[], help="what may differ, as it is the question"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write page, pictures, CSV and JSON there")
    parser.add_argument("--wandb", metavar="ENTITY/PROJECT", help="save a report of it on W&B's server")
    return parser.parse_args(arguments)


def main() -> None:
    command = shlex.join(["python", "-m", "sft_research.compare", *sys.argv[1:]])
    secrets.load()
    with ending(show_traceback=True):
        show(_parse(sys.argv[1:]), command)


if __name__ == "__main__":
    main()
