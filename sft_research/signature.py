"""The parameters of a target, read from its source without importing it.

Importing `trl.SFTConfig` takes 12 s and torch with it; reading it takes 0.05 s, so a misspelt key
is refused in the time a person waits for a typo.

    parameters("torch.optim.AdamW")["lr"].annotation   ->  "Union[float, Tensor]"
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import sys
from collections.abc import Iterable, Iterator
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
    """Name -> parameter of a class or function, `self` left out.

    None where it takes any keyword, or where its source does not say (compiled, or made at run time).
    Raises UnknownTarget when the module, or the name in the module, does not exist.
    """
    module, _, name = target.rpartition(".")
    if not module:
        raise UnknownTarget(f"it is no dotted path, such as my_package.{name}")
    found = _find(module, name)
    if found is None:
        raise UnknownTarget(f"{module} has no {name!r}")
    where, node = found
    if isinstance(node, ast.ClassDef):
        return _of_class(where, node)
    return _of_function(node) if node else None


def names(module: str) -> list[str]:
    """Public classes and functions of a module, its re-exports too, for a did-you-mean."""
    tree = _tree(module)
    found = []
    for node in _statements(tree.body if tree else []):
        if isinstance(node, Definition):
            found.append(node.name)
        elif isinstance(node, ast.ImportFrom):
            found += [alias.asname or alias.name for alias in node.names]
    return [name for name in found if name[0] != "_"]


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
        for file in (place / "__init__.py", place.with_suffix(".py"), *place.parent.glob(f"{place.name}.*")):
            if file.is_file():
                return file
    return None


@cache
def _tree(module: str) -> ast.Module | None:
    file = _source(module)
    return ast.parse(file.read_text("utf-8")) if file and file.suffix == ".py" else None


@cache
def _find(module: str, name: str, hops: int = 9) -> tuple[str, Definition | None] | None:
    """(module, node) where `module.name` is really defined, through re-exports.

    The node is None where it may be there, but cannot be read: compiled, assigned, or too far off.
    `hops`: re-exports that may lie on the way; `from x import *` counts as four, it leads to every name.
    """
    file, tree = _source(module), _tree(module)
    if tree is None:
        owner, _, class_name = module.rpartition(".")  # of a method: `my_package.Format.from_file`
        return (module, None) if file or (owner and _find(owner, class_name)) else None
    if hops < 0:
        return module, None
    imports = []
    for node in _statements(tree.body):
        if isinstance(node, Definition) and node.name == name:
            return module, node
        if _binds(node, name):
            return module, None
        if isinstance(node, ast.ImportFrom):
            imports += [(alias, _absolute(module, node)) for alias in node.names]
    for alias, origin in imports:
        if (alias.asname or alias.name) == name and (origin, alias.name) != (module, name):
            return _find(origin, alias.name, hops - 1) or (module, None)
    for alias, origin in imports:
        if alias.name == "*" and (found := _find(origin, name, hops - 4)):
            return found
    return None


def _binds(node: ast.AST, name: str) -> bool:
    """`name = ...` or `import ... as name`."""
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
    return isinstance(node, ast.Import) and any(alias.asname == name for alias in node.names)


def _statements(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """What a module defines itself, under `if` and `try` too, but not inside its classes and functions."""
    for node in nodes:
        yield node
        if not isinstance(node, Definition):
            yield from _statements(ast.iter_child_nodes(node))


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
        inherited = _of_base(module, base)
        if inherited is None:
            return None
        merged |= inherited
    if "dataclass" in " ".join(map(ast.unparse, node.decorator_list)) or "NamedTuple" in map(
        ast.unparse, node.bases
    ):
        merged |= _fields(node)
    return merged


def _of_base(module: str, base: ast.expr) -> dict[str, Parameter] | None:
    """Of a class that another inherits from; None where its source is not found from here."""
    if isinstance(base, ast.Subscript):  # Generic[T]
        base = base.value
    found = _find(module, base.id) if isinstance(base, ast.Name) else None
    if found is None:
        return {} if hasattr(builtins, ast.unparse(base)) else None
    if isinstance(found[1], ast.ClassDef):
        return _of_class(found[0], found[1])
    return {} if found[1] else None  # typing.NamedTuple is a function


def _fields(node: ast.ClassDef) -> dict[str, Parameter]:
    """The fields of a dataclass that its constructor takes."""
    written = {item: ast.unparse(item) for item in node.body if isinstance(item, ast.AnnAssign)}
    return {
        ast.unparse(item.target): Parameter(ast.unparse(item.annotation), item.value is None)
        for item, text in written.items()
        if not any(mark in text for mark in ("ClassVar", "KW_ONLY", "init=False"))
    }


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
