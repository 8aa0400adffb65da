"""The parameters of a target are read from its source, and a target that may be right is never refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sft_research.signature import Parameter, UnknownTarget, names, parameters
from tests.runs import python

# A package as somebody might write it: re-exports, inheritance, fallbacks, things made at run time.
PACKAGE = {
    "__init__.py": """
        from .formats import *
        from .formats import Plain as Renamed
        from . import formats
        import os as system
        raise RuntimeError("reading runs nothing")
    """,
    "formats.py": """
        import dataclasses
        from dataclasses import KW_ONLY, dataclass, field
        from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar
        from functools import partial
        from . import bases
        from .bases import Base, Loop
        T = TypeVar("T")

        class Plain:
            note: str = "no dataclass: an annotation is not a parameter"
            def __init__(self, a: int, b: "str" = "x", *, c: float, d=None): ...
            @classmethod
            def from_file(cls, path: str): ...

        @dataclass
        class Data:
            a: int
            b: list[str] = field(default_factory=list)
            table: ClassVar[dict] = {}
            _: KW_ONLY
            c: str | None = None
            _made: Any = field(default=None, init=False)

        @dataclasses.dataclass(frozen=True)
        class Child(Data, Generic[T]):
            a: float
            d: int = 0

        class Inherits(Plain): ...
        class FromElsewhere(Base):
            more: int = 3
        class ByAttribute(bases.Base): ...
        class Speaks(Protocol):
            def speak(self) -> None: ...
        class Pair(NamedTuple):
            left: int
            right: int = 0
        class Anything:
            def __init__(self, a, **rest): ...

        def function(a: int, b=1, *more: int, c: bool = True): ...
        def anything(a: int, **rest): ...
        def outer():
            def hidden(a): ...
        assigned = partial(function, b=2)
        try:
            from no_such_package import fallback
        except ImportError:
            def fallback(a: int): ...
        if True:
            def conditional(x): ...
    """,
    "bases.py": """
        from .formats import Loop as Loop
        class Base:
            def __init__(self, root: str): ...
    """,
    "compiled.cpython-311-x86_64-linux-gnu.so": "",
}


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("path") / "a_package"
    folder.mkdir()
    for file, text in PACKAGE.items():
        (folder / file).write_text(text.replace("\n        ", "\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder.parent)
        yield


def read(target: str) -> dict[str, str | None] | None:
    """name -> annotation, with a `?` where the parameter may be left out."""
    found = parameters(f"a_package.{target}")
    return found and {f"{name}{'' if p.required else '?'}": p.annotation for name, p in found.items()}


PLAIN = {"a": "int", "b?": "'str'", "c": "float", "d?": None}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("formats.Plain", PLAIN),
        ("Plain", PLAIN),  # through `import *`
        ("Renamed", PLAIN),
        ("formats.Inherits", PLAIN),
        ("formats.Data", {"a": "int", "b?": "list[str]", "c?": "str | None"}),
        ("formats.Child", {"a": "float", "b?": "list[str]", "c?": "str | None", "d?": "int"}),
        ("formats.FromElsewhere", {"root": "str"}),
        ("formats.Base", {"root": "str"}),
        ("formats.Speaks", {}),
        ("formats.Pair", {"left": "int", "right?": "int"}),
        ("formats.function", {"a": "int", "b?": None, "c?": "bool"}),
        ("formats.fallback", {"a": "int"}),
        ("formats.conditional", {"x": None}),
    ],
)
def test_parameters_are_read_with_what_is_required_and_their_annotations(
    target: str, expected: dict[str, str | None]
) -> None:
    assert read(target) == expected


@pytest.mark.parametrize(
    "target",
    [
        "formats.Anything",  # **rest
        "formats.anything",
        "formats.assigned",  # made at run time
        "formats.ByAttribute",  # its base is not found from here
        "formats.Plain.from_file",  # a method
        "compiled.Fast",
        "system",
        "bases.Loop",  # two modules that import it from each other
    ],
)
def test_what_the_source_does_not_say_is_left_to_python(target: str) -> None:
    assert read(target) is None


@pytest.mark.parametrize("target", ["builtins.dict", "math.sqrt", "os.path.join", "numpy.zeros"])
def test_targets_without_python_source_are_left_to_python(target: str) -> None:
    assert parameters(target) is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("a_package.Nothing", "a_package has no 'Nothing'"),
        ("a_package.formats.hidden", "a_package.formats has no 'hidden'"),
        ("a_package.formats.from_file", "a_package.formats has no 'from_file'"),
        ("a_package.no_module.Plain", "a_package.no_module has no 'Plain'"),
        ("a_package.Nothing.from_file", "a_package.Nothing has no 'from_file'"),
        ("no_such_package.Plain", "there is no module 'no_such_package' on this Python's path"),
        ("Plain", "it is no dotted path, such as my_package.Plain"),
        ("torch.optim.Adamw", "torch.optim has no 'Adamw'"),
    ],
)
def test_a_target_that_is_not_there_is_refused(target: str, message: str) -> None:
    with pytest.raises(UnknownTarget) as refused:
        parameters(target)
    assert str(refused.value) == message


def test_the_names_of_a_module_are_its_own_and_those_it_passes_on() -> None:
    assert names("a_package.bases") == ["Loop", "Base"]
    assert {"AdamW", "SGD", "Muon"} < set(names("torch.optim"))
    assert names("a_package.compiled") == []


def test_known_libraries_are_read_as_they_are_documented() -> None:
    adamw = parameters("torch.optim.AdamW")
    assert adamw is not None
    assert adamw["params"] == Parameter("ParamsT", required=True)
    assert adamw["weight_decay"] == Parameter("float", required=False)
    sft_config = parameters("trl.SFTConfig")
    assert sft_config is not None
    assert sft_config["packing"] == Parameter("bool", required=False)
    assert sft_config["num_train_epochs"] == Parameter(
        "float", required=False
    )  # of its base, in transformers


def test_reading_imports_nothing(tmp_path: Path) -> None:
    targets = ["torch.optim.AdamW", "trl.SFTConfig", "bitsandbytes.optim.Lion", "sft_research.lora.Lora"]
    code = (
        "import sys\nfrom sft_research.signature import parameters\nbefore = set(sys.modules)\n"
        f"assert all(map(parameters, {targets}))\nprint(*{{m.split('.')[0] for m in set(sys.modules) - before}})"
    )
    assert not {"torch", "trl", "bitsandbytes", "transformers", "sft_research"} & set(
        python(code, tmp_path).split()
    )
    assert parameters("a_package.Plain")
    assert "a_package" not in sys.modules
