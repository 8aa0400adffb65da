"""Whether a config value fits an annotation that was read as text, not imported.

    fits("abc", "int")  -> False      fits(3, "float | None")  -> True
    fits("fp8", "Literal['auto', 'float32']")  -> False
A name it does not know (a class) accepts anything: Python will say so later.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

PLAIN: dict[str, Callable[[Any], bool]] = {
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "float": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "bool": lambda v: isinstance(v, bool),
    "str": lambda v: isinstance(v, str),
    "None": lambda v: v is None,
    "list": lambda v: isinstance(v, list),
    "tuple": lambda v: isinstance(v, list),
    "Sequence": lambda v: isinstance(v, list),
    "dict": lambda v: isinstance(v, dict),
    "Tensor": lambda v: False,  # a config holds none
}


def fits(value: Any, annotation: str) -> bool:
    return any(_fits_one(value, member) for member in _members(ast.parse(annotation, mode="eval").body))


def choices(annotation: str) -> list[Any]:
    """The values of a `Literal[...]`, [] for any other annotation."""
    members = _members(ast.parse(annotation, mode="eval").body)
    return [value for member in members for value in _literals(member)]


def _members(node: ast.expr) -> list[ast.expr]:
    """The alternatives of `A | B`, `Union[A, B]` and `Optional[A]`."""
    if isinstance(node, ast.BinOp):
        return [*_members(node.left), *_members(node.right)]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        if node.value.id == "Union" and isinstance(node.slice, ast.Tuple):
            return [m for part in node.slice.elts for m in _members(part)]
        if node.value.id == "Optional":
            return [*_members(node.slice), ast.Constant(None)]
    return [node]


def _fits_one(value: Any, node: ast.expr) -> bool:
    if isinstance(node, ast.Subscript):
        outer = ast.unparse(node.value)
        if outer == "Literal":
            return value in _literals(node)
        if (
            outer == "tuple"
            and isinstance(value, list)
            and "..." not in map(ast.unparse, _elements(node.slice))
        ):
            types = [ast.unparse(element) for element in _elements(node.slice)]
            return len(value) == len(types) and all(map(fits, value, types))
        if outer in ("list", "Sequence") and isinstance(value, list):
            return all(fits(item, ast.unparse(node.slice)) for item in value)
        return PLAIN[outer](value) if outer in PLAIN else True
    name = ast.unparse(node)
    return PLAIN[name](value) if name in PLAIN else True


def _literals(node: ast.expr) -> list[Any]:
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
        return [ast.literal_eval(element) for element in _elements(node.slice)]
    return []


def _elements(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]
