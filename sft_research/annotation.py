"""Whether a config value fits an annotation that was read as text, not imported.

    fits("abc", "int")  -> False      fits(3, "float | None")  -> True
    fits("fp8", "Literal['auto', 'float32']")  -> False
A name it does not know (`Tensor`, a class) accepts anything: Python will say so later.
"""

from __future__ import annotations

import ast
from typing import Any

PLAIN = {
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "float": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "bool": lambda v: isinstance(v, bool),
    "str": lambda v: isinstance(v, str),
    "None": lambda v: v is None,
    "list": lambda v: isinstance(v, list),
    "tuple": lambda v: isinstance(v, list),
    "Sequence": lambda v: isinstance(v, list),
    "dict": lambda v: isinstance(v, dict),
}


def fits(value: Any, annotation: str) -> bool:
    return any(_fits_one(value, member) for member in _members(ast.parse(annotation, mode="eval").body))


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
            return value in ast.literal_eval(ast.Tuple([*_elements(node.slice)], ast.Load()))
        if outer in ("list", "Sequence") and isinstance(value, list):
            return all(fits(item, ast.unparse(node.slice)) for item in value)
        return PLAIN[outer](value) if outer in PLAIN else True
    name = ast.unparse(node)
    return PLAIN[name](value) if name in PLAIN else True


def _elements(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]
