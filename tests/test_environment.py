"""`environment.json` names the code, the machine and the data of a run."""

from __future__ import annotations

import resource
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from sft_research import environment


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    done = subprocess.run(["git", "-C", folder, *who, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_versions_command_and_data_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.orig_argv", ["/somewhere/python", "-m", "sft_research.train", "seed=1"])
    found = environment.describe("0123456789abcdef", "1f2e3d")
    assert found["command"] == ["python", "-m", "sft_research.train", "seed=1"]
    assert (found["dataset_fingerprint"], found["model_revision"]) == ("0123456789abcdef", "1f2e3d")
    assert found["packages"]["torch"] == metadata.version("torch")
    assert (found["cpu_threads"] > 0, found["working_folder"]) == (True, str(Path.cwd()))


def test_all_that_is_installed_is_listed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name, version in (
        ("a", "Zinc", "1.0"),
        ("a", "alum", "2.0"),
        ("b", "alum", "3.0"),
        ("b", "", ""),
    ):
        info = tmp_path / place / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n" if name else "")
    monkeypatch.setattr("sys.path", [str(tmp_path / "a"), str(tmp_path / "b")])
    assert list(environment.packages().items()) == [("alum", "2.0"), ("Zinc", "1.0")]


def test_the_limits_that_are_set_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    of = {
        resource.RLIMIT_FSIZE: 512_000,
        resource.RLIMIT_AS: resource.RLIM_INFINITY,
        resource.RLIMIT_NOFILE: 1024,
    }
    monkeypatch.setattr("resource.getrlimit", lambda which: (of[which], resource.RLIM_INFINITY))
    assert environment.limits() == {"RLIMIT_FSIZE": 512_000, "RLIMIT_NOFILE": 1024}


def test_the_commit_comes_with_what_is_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("lr = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert environment.describe("")["git"] == {"commit": commit, "diff": "", "untracked": []}
    (tmp_path / "code.py").write_text("lr = 2\n")
    (tmp_path / "new.py").write_text("")
    changed = environment.describe("")["git"]
    assert changed["diff"].endswith("@@ -1 +1 @@\n-lr = 1\n+lr = 2")
    assert changed["untracked"] == ["new.py"]


def test_code_outside_a_checkout_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert environment.describe("")["git"] is None
