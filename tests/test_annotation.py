"""A config value against an annotation that is only text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_research.annotation import choices, fits

TYPES = {int: "int", float: "float", bool: "bool", str: "str", list: "list", dict: "dict", type(None): "None"}


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, "int", True),
        ("3", "int", False),
        (3.0, "int", False),
        (True, "int", False),
        (3, "float", True),  # Python's own rule: an int is a float
        (True, "float", False),
        (None, "float", False),
        ("abc", "int", False),
        (1, "bool", False),
        (3, "float | None", True),
        (None, "float | None", True),
        ("x", "float | None", False),
        (None, "Optional[int]", True),
        ("x", "Optional[int]", False),
        (3, "Union[str, Optional[int]]", True),
        (3.5, "Union[str, Optional[int]]", False),
        ("fp8", "Literal['auto', 'float32']", False),
        ("auto", "Literal['auto', 'float32']", True),
        (None, "Literal['bfd'] | None", True),
        ([1, 2], "list[int]", True),
        ([1, "2"], "list[int]", False),
        ([], "list[int]", True),
        ("q_proj", "list[str]", False),
        ([["a"], ["b"]], "list[list[str]]", True),
        ([["a"], [1]], "Sequence[list[str]]", False),
        ([0.9, 0.99], "tuple[float, float]", True),
        ([0.9], "tuple[float, float]", False),
        ([0.9, "x"], "tuple[float, float]", False),
        ([0.9, 1, 2], "tuple[float, ...]", True),
        (0.9, "tuple[float, float]", False),
        ([1], "tuple", True),
        ({"a": 1}, "dict[str, int]", True),
        ([1], "dict[str, int]", False),
        (0.001, "Union[float, Tensor]", True),
        ("fast", "Union[float, Tensor]", False),  # a config holds no tensor
        ("anything", "Any", True),
        ("linear", "SchedulerType | str", True),
        (3, "torch.dtype", True),  # a name it does not know accepts anything
        ("x", "Callable[[int], str]", True),
    ],
)
def test_it_fits_or_not(value: Any, annotation: str, expected: bool) -> None:
    assert fits(value, annotation) is expected


@given(
    st.one_of(
        st.integers(),
        st.floats(),
        st.booleans(),
        st.text(),
        st.none(),
        st.lists(st.integers()),
        st.dictionaries(st.text(), st.integers()),
    )
)
def test_a_value_fits_its_own_type_and_no_other_but_an_int_a_float(value: Any) -> None:
    own = {TYPES[type(value)], *(["float"] if type(value) is int else [])}
    assert {name for name in TYPES.values() if fits(value, name)} == own


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        ("Literal['bfd', 'wrapped'] | None", ["bfd", "wrapped"]),
        ("Optional[Literal[1, 2]]", [1, 2]),
        ("Literal['one']", ["one"]),
        ("str | None", []),
        ("list[str]", []),
    ],
)
def test_the_choices_are_those_of_a_literal(annotation: str, values: list[Any]) -> None:
    assert choices(annotation) == values
