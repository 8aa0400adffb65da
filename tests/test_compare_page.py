"""The page of a comparison: in the text that is written, and in a real browser."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from sft_research.compare_data import data
from sft_research.compare_page import page
from sft_research.comparison import compare
from sft_research.past_grids import find as find_all
from sft_research.past_runs import find
from sft_research.points import METRICS
from sft_research.verdict import verdict
from tests import browser
from tests.compared import grid, run, write
from tests.swept import point, sweep

EVIL = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


def seen(place: Path) -> dict[str, Any]:
    found = compare(find([place]), METRICS["loss"])
    return data(found, verdict(found), "the command")


@pytest.fixture
def ranks(tmp_path: Path) -> Path:
    """Rank 4 comes to 0.5 at both rates, rank 8 to 0.4 at the higher one and to 0.6 at the lower."""
    losses = {(4, 1e-3): [0.5, 0.52], (4, 1e-2): [0.5, 0.53], (8, 1e-3): [0.6, 0.61], (8, 1e-2): [0.4, 0.41]}
    return grid(tmp_path / "runs", losses)


def rows(made: str, table: str = "") -> list[str]:
    """The text of each row, its cells apart."""
    part = made.partition(table)[2].partition("</table>")[0]
    return [re.sub(r"(<[^>]+>)+", "|", row) for row in re.findall(r"<tr.*?</tr>", part)]


# As text ------------------------------------------------------------------------------------------


def test_the_answer_is_the_title_and_the_heading(ranks: Path) -> None:
    found = seen(ranks)
    made = page(found)
    assert f"<title>{found['title']}</title>" in made
    assert f"<h1>{found['title']}</h1>" in made
    assert "8 finished runs of 8, by held-out loss in nats a token: less is better." in made


def test_the_page_fetches_nothing_and_runs_one_script(ranks: Path) -> None:
    made = page(seen(ranks))
    (script,) = re.findall(r"<script>(.*?)</script>", made, re.DOTALL)
    allowed = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in made
    rest = made.replace(policy, "").replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert re.findall(r"(?:src|href|url|import|http)[=(:\s]", rest) == []
    assert re.findall(r"<(?:img|link|iframe|object|embed|base|form)", rest) == []


def test_the_data_are_json_that_no_text_can_end(tmp_path: Path) -> None:
    run(tmp_path, r=4, alpha=EVIL)
    run(tmp_path, r=8, alpha="r")
    made = page(seen(tmp_path))
    (held,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', made, re.DOTALL)
    assert "<" not in held
    assert EVIL in [run["config"]["lora.alpha"] for run in json.loads(held)["runs"]]
    assert made.count("<script") == 2
    assert "<img" not in made


def test_the_ranking_and_the_maps_say_the_numbers(ranks: Path) -> None:
    made = page(seen(ranks))
    assert [row.split("|")[1:7] for row in rows(made, 'class="ranking">')[1:]] == [
        ["1", "8", "0.01", "0.4050", "0.0071", "2"],
        ["2", "4", "0.001", "0.5100", "0.0141", "2"],
        ["3", "4", "0.01", "0.5150", "0.0212", "2"],
        ["4", "8", "0.001", "0.6050", "0.0071", "2"],
    ]
    assert rows(made, 'class="heat">') == ["|0.001|0.01|", "|4|0.510|0.515|", "|8|0.605|0.405|"]
    assert made.count('<td class="best"') == 1
    assert rows(made, "Best learning rate per rank")[1:] == [
        "|4|0.001|0.5100|the lowest tried|",
        "|8|0.01|0.4050|the highest tried|",
    ]


def test_what_is_not_there_and_what_is_apart_is_said(ranks: Path) -> None:
    failed = run(ranks, r=16, lr=1e-3)
    (failed / "result.json").unlink()
    fixes = {"likely": "", "kind": "", "fixes": [["lora.r=8", "saves much"]]}
    write(failed, "failure.json", {"status": "failed", "error": "Boom", "message": "<b>", "cause": fixes})
    run(ranks, r=32, lr=1e-3, results={"loss_tokens": 900})
    made = page(seen(ranks))
    assert "failed: r=16 lr=0.001 seed=0: Boom: &lt;b&gt;</li>" in made
    assert "<li>missing: r=16 lr=0.001 seed=1</li>" in made
    assert "Not compared with those above: loss tokens: 900, not 300" in made
    assert "<pre>lora.r=8 saves much</pre>" in made


# In a browser -------------------------------------------------------------------------------------

TOOLS = """
const $ = (of) => document.querySelector(of);
const texts = (of) => [...document.querySelectorAll(of)].map((node) => node.textContent);
const change = (label, value) => {
  const select = $(`select[aria-label="${label}"]`);
  select.value = value;
  select.dispatchEvent(new Event("change"));
};
const button = (text) => [...document.querySelectorAll("button")].find((one) => one.textContent === text);
const painted = () => {
  const canvas = $("#curves canvas");
  const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let at = 3; at < bytes.length; at += 4) count += bytes[at] > 0;
  return count;
};
const point = (x, y) => {  // shares of the plot
  const place = document.querySelectorAll("#curves canvas")[1];
  const box = place.getBoundingClientRect();
  const at = { clientX: box.left + x * box.width, clientY: box.top + y * box.height };
  place.dispatchEvent(new PointerEvent("pointermove", at));
  return $("#curves .tip").hidden ? null : texts("#curves .tip > *");
};
"""


@browser.needed
def test_hovering_says_the_run_and_its_value(tmp_path: Path) -> None:
    grid(tmp_path / "runs", {(4, 1e-3): [0.5], (8, 1e-3): [0.4]})
    script = (
        TOOLS
        + """
        change("curve", "train/loss");
        const low = point(0.95, 0.9), none = point(0.95, 0.3);
        change("over", "step");
        return [low, none, point(0.95, 0.9), point(0.06, 0.07), $("html").dataset.ready !== undefined];
    """
    )
    found = browser.opened(page(seen(tmp_path / "runs")), script, tmp_path / "browser")
    # Both runs go 2.0, 1.5 and then 0.4 or 0.5, a step each of 50 tokens; the lower line is rank 8's.
    assert found == [
        ["r=8 seed=0", "training loss, nats a token: 0.4", "loss tokens: 150"],
        None,
        ["r=8 seed=0", "training loss, nats a token: 0.4", "steps: 3"],
        [found[3][0], "training loss, nats a token: 2", "steps: 1"],
        True,
    ]


@browser.needed
def test_levels_and_runs_can_be_left_out(ranks: Path, tmp_path: Path) -> None:
    script = (
        TOOLS
        + """
        change("curve", "train/loss");
        change("colour", "lora.r");
        const all = painted(), levels = texts("#levels button");
        $("#levels button").click();
        const one = painted(), pressed = [...document.querySelectorAll("#each button")].map((b) => b.ariaPressed);
        button("none").click();
        const none = painted();
        button("all").click();
        return [all > one && one > none, levels, pressed.sort(), painted() === all];
    """
    )
    found = browser.opened(page(seen(ranks)), script, tmp_path / "browser")
    assert found == [True, ["4", "8", "all", "none"], ["false"] * 4 + ["true"] * 4, True]


@browser.needed
def test_log_and_smooth_change_the_picture_and_go_back(ranks: Path, tmp_path: Path) -> None:
    script = (
        TOOLS
        + """
        change("curve", "train/loss");
        const picture = () => $("#curves canvas").toDataURL();
        const plain = picture(), log = (button("log").click(), picture());
        const smooth = (button("log").click(), button("smooth").click(), picture());
        button("smooth").click();
        return [plain !== log, plain !== smooth, picture() === plain, texts("#curves select:first-of-type option")];
    """
    )
    found = browser.opened(page(seen(ranks)), script, tmp_path / "browser")
    assert found[:3] == [True, True, True]
    assert found[3][:2] == ["held-out loss, nats a token", "training loss, nats a token"]


@browser.needed
def test_two_runs_are_put_side_by_side(ranks: Path, tmp_path: Path) -> None:
    script = (
        TOOLS
        + """
        const first = texts("#differs td");
        change("B", "7");
        return [first, texts("#differs td"), texts("#pair .row"), texts("#pair figcaption")];
    """
    )
    found = browser.opened(page(seen(ranks)), script, tmp_path / "browser")
    # The best two of one seed, then the best beside itself with the other seed.
    assert found[0] == ["lora.r", "8", "4", "optimizer.lr", "0.01", "0.001"]
    assert found[1] == ["seed", "0", "1"]
    assert found[2] == ["1+1?", "2", "7", "8", "8"]
    assert found[3] == ["expected", "before training", "A ✗ wrong", "B ✗ wrong"]


@browser.needed
def test_a_value_of_the_parallel_axes_shows_its_points_alone(ranks: Path, tmp_path: Path) -> None:
    script = (
        TOOLS
        + """
        const off = () => document.querySelectorAll("#parallel path.off").length;
        const pick = (at) => document.querySelectorAll("#parallel text.pick")[at].dispatchEvent(new Event("click"));
        const before = [off(), texts("#parallel text.pick"), document.querySelectorAll("#parallel path.best").length];
        pick(0);
        const one = off();
        pick(3);
        const both = off();
        pick(0);
        pick(3);
        return [...before, one, both, off()];
    """
    )
    found = browser.opened(page(seen(ranks)), script, tmp_path / "browser")
    assert found == [0, ["4", "8", "0.001", "0.01"], 1, 2, 3, 0]


@browser.needed
@pytest.mark.parametrize(("width", "dark"), [(400, False), (1600, True)])
def test_it_fits_a_phone_and_a_wide_screen_in_light_and_dark(
    ranks: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    script = (
        TOOLS
        + """
        const paper = () => getComputedStyle(document.body).backgroundColor;
        const first = paper(), picture = $("#curves canvas").toDataURL();
        $("#theme").click();
        const redrawn = $("#curves canvas").toDataURL() !== picture;
        const charts = [...document.querySelectorAll("#parallel svg, #best-lr svg, #curves canvas")];
        const inside = charts.every((one) => one.getBoundingClientRect().right <= innerWidth);
        return [innerWidth, document.documentElement.scrollWidth, first, paper(), redrawn, charts.length, inside];
    """
    )
    found = browser.opened(page(seen(ranks)), script, tmp_path / "browser", width, dark)
    light, night = "rgb(255, 255, 255)", "rgb(20, 24, 28)"
    assert found == [width, width, *((night, light) if dark else (light, night)), True, 4, True]


@browser.needed
def test_texts_of_a_stranger_do_nothing(tmp_path: Path) -> None:
    for r in (4, 8):
        folder = run(tmp_path / "runs", r=r, alpha=EVIL, dataset__rows=EVIL if r == 4 else 48, seed="\"'><i>")
        write(folder, "samples.jsonl", [dict.fromkeys(("question", "expected", "before", "after"), EVIL)])
    script = (
        TOOLS
        + """
        point(0.5, 0.5);
        return [document.title, document.images.length, document.scripts.length, texts("#pair .row")[0]];
    """
    )
    found = browser.opened(page(seen(tmp_path / "runs")), script, tmp_path / "browser")
    assert found[0].startswith("Not decided: ")
    assert found[1:] == [0, 3, EVIL]  # the data, the page's own script and this test's


@browser.needed
def test_half_a_grid_without_a_result_is_shown(tmp_path: Path) -> None:
    for r in (4, 8):
        (run(tmp_path / "runs", r=r) / "result.json").unlink()
    script = TOOLS + "return [painted() > 500, texts('h1'), texts('#curves .chips#levels button').length];"
    assert browser.opened(page(seen(tmp_path / "runs")), script, tmp_path / "browser") == [
        True,
        ["No run has finished"],
        4,
    ]


@browser.needed
def test_a_hundred_runs_of_a_thousand_points_are_drawn(ranks: Path, tmp_path: Path) -> None:
    found = seen(ranks)
    steps = range(1, 1001)
    wave = [round(2 + (step * 7919 % 97) / 97, 4) for step in steps]
    curves = {
        "step": [*steps],
        "loss_tokens": [371 * step for step in steps],
        "seconds": [1.5 * step for step in steps],
    }
    runs = [
        run
        | {
            "seed": str(at),
            "curves": {**curves, "train/loss": [v + at / 50 for v in wave], "train/grad_norm": wave},
        }
        for at, run in enumerate(found["runs"] * 13)
    ][:100]
    made = page(found | {"runs": runs, "series": {"train/loss": "loss", "train/grad_norm": "norm"}})
    assert len(made) < 8e6
    script = TOOLS + "return [painted() > 20000, texts('#each button').length, point(0.5, 0.5).length];"
    assert browser.opened(made, script, tmp_path / "browser") == [True, 100, 3]


@browser.needed
@pytest.mark.parametrize(("width", "dark"), [(400, True), (1300, False)])
def test_a_grid_that_goes_on_is_shown_as_far_as_it_is(tmp_path: Path, width: int, dark: bool) -> None:
    grid(tmp_path / "e", {(4, 1e-3): [0.5], (4, 1e-2): [0.4], (8, 1e-3): [0.3]})
    sweep(tmp_path / "e", [point(r, lr) for r in (4, 8, 16) for lr in (1e-3, 1e-2)])
    found = compare(find_all([tmp_path]), METRICS["loss"])
    made = page(data(found, verdict(found), "the command"))
    script = (
        TOOLS
        + """
        const folded = $("details.state"), before = folded.getBoundingClientRect().height;
        folded.querySelector("summary").click();
        const cells = [...document.querySelectorAll("table.heat td")].map((cell) => cell.textContent + cell.className);
        return [innerWidth, document.documentElement.scrollWidth, folded.getBoundingClientRect().height > before,
          texts("details.state li"), cells, getComputedStyle($("td.to-come")).outlineStyle,
          document.querySelectorAll("#best-lr path").length, document.querySelectorAll("#parallel path.hit").length];
    """
    )
    seen = browser.opened(made, script, tmp_path / "browser", width, dark)
    assert seen[:3] == [width, width, True]
    assert seen[3] == ["r=8 lr=0.01 seed=0", "r=16 lr=0.001 seed=0", "r=16 lr=0.01 seed=0"]
    assert seen[4] == ["0.500", "0.400", "0.300best", "·none to-come", "·none to-come", "·none to-come"]
    assert seen[5:] == ["dashed", 2, 3]  # a line a rank that has a point, and a line a point
