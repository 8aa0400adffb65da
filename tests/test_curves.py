"""The picture of a run is drawn from what its metrics.jsonl holds, and from less."""

import json
import subprocess
import sys

import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from sft_research.config import ROOT
from sft_research.curves import BLUE, ORANGE, draw

TRAINING = [
    {"step": step, "loss_tokens": 100 * step, "train/loss": 2 / step, "train/learning_rate": 1e-3 / step}
    | {"train/grad_norm": 1.0}
    for step in range(1, 9)
]
HELD_OUT = [{"step": step, "loss_tokens": 100 * step, "eval/loss": 1 + 1 / step} for step in (1, 8)]
SCORED = [{"step": 0, "loss_tokens": 0, "eval/exact_match": 0.5}]
DIVERGED = [{"step": 9, "loss_tokens": 900, "train/loss": float("nan"), "train/learning_rate": 1e-4}]


@pytest.fixture
def picture(tmp_path):
    """Draw rows: the picture as a (height, width, 4) array."""

    def drawn(rows):
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        draw(tmp_path / "metrics.jsonl", tmp_path / "curves.png", title="arithmetic / default")
        return imread(tmp_path / "curves.png")

    return drawn


def columns(picture, colour):
    """The columns of a picture, 0 to 1,499, in which some pixel has exactly this colour."""
    found = (abs(picture[:, :, :3] - to_rgb(colour)) < 1 / 512).all(axis=2).any(axis=0)
    return {int(column) for column in found.nonzero()[0]}


LOSS, LEARNING_RATE, GRADIENT_NORM = range(0, 750), range(750, 1125), range(1125, 1500)


def panels(picture, colour):
    """Which of the three panels, of widths 2 : 1 : 1, have this colour in them."""
    wanted = {"loss": LOSS, "learning rate": LEARNING_RATE, "gradient norm": GRADIENT_NORM}
    return [name for name, panel in wanted.items() if columns(picture, colour) & set(panel)]


@pytest.mark.parametrize(
    ("rows", "blue", "orange"),
    [
        (TRAINING + HELD_OUT, ["loss", "learning rate", "gradient norm"], ["loss"]),
        (TRAINING, ["loss", "learning rate", "gradient norm"], []),
        (SCORED + TRAINING + DIVERGED, ["loss", "learning rate", "gradient norm"], []),
        (HELD_OUT, [], ["loss"]),
        (SCORED, [], []),
        ([], [], []),
    ],
    ids=["all", "no-eval", "diverged", "eval-alone", "no-curves", "no-rows"],
)
def test_the_picture_has_1500_x_450_pixels_and_the_curves_that_there_are(picture, rows, blue, orange):
    drawn = picture(rows)
    assert drawn.shape == (450, 1500, 4)
    assert (panels(drawn, BLUE), panels(drawn, ORANGE)) == (blue, orange)


def command(*args):
    line = [sys.executable, "-m", "sft_research.curves", *map(str, args)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_draws_into_the_folder_of_the_run_or_where_it_is_told(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps(TRAINING[0]) + "\n")
    assert command(tmp_path).returncode == 0
    assert command(tmp_path, tmp_path / "mine.png").returncode == 0
    drawn = (tmp_path / "curves.png").read_bytes()
    assert drawn[:8] == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "mine.png").read_bytes() == drawn


def test_the_command_says_of_another_folder_that_it_is_no_run(tmp_path):
    done = command(tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        f"{tmp_path} has no metrics.jsonl, so it is not the folder of a run\n",
    )
