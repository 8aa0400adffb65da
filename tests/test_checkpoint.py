"""A checkpoint is whole, or known not to be."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from sft_research.checkpoint import newest, step_of, whole, writing


def write(folder: Path, step: int) -> Path:
    place = folder / f"checkpoint-{step}"
    with writing(place) as beside:
        (beside / "weights").write_bytes(b"w" * 100)
        (beside / "part").mkdir()
        (beside / "part" / "state.json").write_text("{}")
    return place


def test_a_manifest_lists_every_file_and_nothing_is_left_beside(tmp_path: Path) -> None:
    place = write(tmp_path, 4)
    listed = json.loads((place / "manifest.json").read_text())
    assert {name: size for name, (size, _) in listed.items()} == {"weights": 100, "part/state.json": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint-4"]
    assert whole(place)


def test_the_disk_keeps_every_file_and_folder_before_the_name_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda opened: kept.append(os.readlink(f"/proc/self/fd/{opened}")))
    write(tmp_path, 4)
    beside = tmp_path / ".writing" / "checkpoint-4"
    inside = [beside / name for name in ("", "weights", "part", "part/state.json", "manifest.json")]
    assert {str(place) for place in inside} <= set(kept)
    assert kept[-1] == str(tmp_path)


def test_a_save_that_fails_leaves_the_older_one_and_no_half(tmp_path: Path) -> None:
    older = write(tmp_path, 4)
    with pytest.raises(FileNotFoundError), writing(tmp_path / "checkpoint-8") as beside:
        (beside / "no such folder" / "weights").write_bytes(b"w")
    assert list(tmp_path.iterdir()) == [older]


def test_what_a_killed_save_left_is_gone_after_the_next(tmp_path: Path) -> None:
    def killed() -> None:
        with writing(tmp_path / "checkpoint-4") as beside:
            (beside / "weights").write_bytes(b"w")
            os._exit(9)

    child = os.fork()
    if not child:
        killed()
    os.waitpid(child, 0)
    assert len(list(tmp_path.rglob("weights"))) == 1
    place = write(tmp_path, 8)
    assert list(tmp_path.iterdir()) == [place]


def test_before_the_rename_there_is_no_checkpoint(tmp_path: Path) -> None:
    with writing(tmp_path / "checkpoint-4") as beside:
        (beside / "weights").write_bytes(b"w")
        assert newest(tmp_path) is None
    assert newest(tmp_path) == tmp_path / "checkpoint-4"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("a byte", "weights has another content"),
        ("the end", "weights has 99 bytes, not 100"),
        ("a file", "state.json: No such file or directory"),
        ("the manifest", "manifest.json: No such file or directory"),
        ("half the manifest", "manifest.json cannot be read"),
    ],
)
def test_a_damaged_one_is_named_and_the_one_before_it_used(
    damage: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = write(tmp_path, 8), write(tmp_path, 12)
    weights, manifest = newer / "weights", newer / "manifest.json"
    if damage == "a byte":
        weights.write_bytes(b"w" * 60 + b"v" + b"w" * 39)
    elif damage == "the end":
        weights.write_bytes(b"w" * 99)
    elif damage == "a file":
        (newer / "part" / "state.json").unlink()
    elif damage == "the manifest":
        manifest.unlink()
    else:
        manifest.write_text(manifest.read_text()[:20])
    with caplog.at_level(logging.WARNING):
        assert newest(tmp_path) == older
    assert caplog.messages == [f"{newer} is damaged, and passed over: {said}."]


def test_steps_are_numbers(tmp_path: Path) -> None:
    """By name, checkpoint-8 would come after checkpoint-12."""
    write(tmp_path, 12)
    write(tmp_path, 8)
    assert newest(tmp_path) == tmp_path / "checkpoint-12"
    assert step_of(tmp_path / "checkpoint-12") == 12


def test_one_that_was_damaged_is_written_again(tmp_path: Path) -> None:
    place = write(tmp_path, 4)
    (place / "weights").write_bytes(b"")
    assert not whole(place)
    write(tmp_path, 4)
    assert whole(place)
