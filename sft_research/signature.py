"""The parameters of a target, read from its source without importing it.

Importing `trl.SFTConfig` takes 12 s and torch with it; reading it takes 0.05 s, so a misspelt key
is refused in the time a person waits for a typo.

    parameters("torch.optim.AdamW")["lr"].annotation   ->  "Union[float, Tensor]"
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Parameter:
    annotation: str | None
    required: bool


class UnknownTarget(Exception):
    """There is no such module, or no such name in it."""


def parameters(target: str) -> dict[str, Parameter] | None:
    """Name -> parameter of a class or function, `self` left out; None where it takes any keyword.

    Raises UnknownTarget when the module, or the name in the module, does not exist.
    """
    module, _, name = target.rpartition(".")
    found = _find(module, name)
    if found is None:
        raise UnknownTarget(f"{module or target} has no {name!r}")
    where, node = found
    return _of_class(where, node) if isinstance(node, ast.ClassDef) else _of_function(node)


def names(module: str) -> list[str]:
    """Public classes and functions of a module, for a did-you-mean."""
    tree = _tree(module)
    return [n.name for n in tree.body if isinstance(n, Definition) and n.name[0] != "_"] if tree else []


@cache
def _source(module: str) -> Path | None:
    """The file of a module, found without running a parent package's __init__."""
    top, *rest = module.split(".")
    if top in sys.modules and not getattr(sys.modules[top], "__path__", None):
        spec = sys.modules[top].__spec__
    else:
        spec = importlib.util.find_spec(top)
    if spec is None:
        raise UnknownTarget(f"there is no module {top!r} on this Python's path")
    if not spec.submodule_search_locations:
        return Path(spec.origin) if spec.origin and not rest else None
    for root in map(Path, spec.submodule_search_locations):
        place = root.joinpath(*rest)
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                return file
    return None


@cache
def _tree(module: str) -> ast.Module | None:
    file = _source(module)
    return ast.parse(file.read_text("utf-8")) if file and file.suffix == ".py" else None


@cache
def _find(module: str, name: str) -> tuple[str, Definition] | None:
    """(module, node) where `module.name` is really defined, through re-exports."""
    tree = _tree(module)
    if tree is None:
        return None
    for node in ast.walk(tree):
        if isinstance(node, Definition) and node.name == name:
            return module, node
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name) == name:
                found = _find(_absolute(module, node), alias.name)
                if found:
                    return found
    return None


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    file = _source(module)
    package = module.split(".") if file and file.name == "__init__.py" else module.split(".")[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def _of_class(module: str, node: ast.ClassDef) -> dict[str, Parameter] | None:
    """Of `__init__` where the class has one, else of its dataclass fields and its bases'."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _of_function(item)
    merged: dict[str, Parameter] = {}
    for base in reversed(node.bases):
        found = _find(module, base.id) if isinstance(base, ast.Name) else None
        inherited = _of_class(*found) if found and isinstance(found[1], ast.ClassDef) else {}  # type: ignore[arg-type]
        if inherited is None:
            return None
        merged |= inherited
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
    for item in fields:
        if isinstance(item.target, ast.Name) and "ClassVar" not in ast.unparse(item.annotation):
            merged[item.target.id] = Parameter(ast.unparse(item.annotation), item.value is None)
    return merged


def _of_function(node: ast.FunctionDef) -> dict[str, Parameter] | None:
    if node.args.kwarg:
        return None
    given = [*node.args.posonlyargs, *node.args.args]
    optional = {a.arg for a in given[len(given) - len(node.args.defaults) :]}
    optional |= {a.arg for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d}
    every = [a for a in [*given, *node.args.kwonlyargs] if a.arg not in ("self", "cls")]
    return {
        a.arg: Parameter(ast.unparse(a.annotation) if a.annotation else None, a.arg not in optional)
        for a in every
    }
