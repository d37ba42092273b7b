"""help() shows the same text for compiled code as for source.

mypyc leaves docstrings out, and setup.py adds them.
"""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import lrpc
from tests.conftest import HAS_HOST

ROOT = Path(__file__).parents[1]
COMPILED = [line for line in (ROOT / "compiled-modules.txt").read_text().splitlines() if not line.startswith("#")]


def documented(module: object, tree: ast.Module) -> Iterator[tuple[str, object, ast.AST]]:
    """Yield each object with a docstring in a module's source: name, object and syntax node."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        holder = getattr(module, node.name)
        if isinstance(node, ast.ClassDef) and issubclass(holder, tuple):
            continue  # mypyc invents a docstring for a compiled named tuple
        found = [(node.name, holder, node)]
        for inner in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("__"):
                found.append((f"{node.name}.{inner.name}", inspect.getattr_static(holder, inner.name), inner))
        yield from (one for one in found if ast.get_docstring(one[2]))


@pytest.mark.parametrize("file", COMPILED)
def test_what_may_be_compiled_has_the_docstrings_and_signatures_of_its_source(file: str) -> None:
    try:
        module = importlib.import_module("lrpc." + file.removesuffix(".py").replace("/", "."))
    except ImportError:
        if HAS_HOST:
            raise
        pytest.skip("needs the host kernel")
    tree = ast.parse((ROOT / file).read_text())
    assert module.__doc__
    assert inspect.getdoc(module) == ast.get_docstring(tree)
    for name, found, node in documented(module, tree):
        assert inspect.getdoc(found) == ast.get_docstring(node), name  # type: ignore[arg-type]
        if isinstance(node, ast.FunctionDef) and callable(found):
            shown = list(inspect.signature(found).parameters)
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            assert shown == [one.arg for one in arguments], name


@pytest.mark.parametrize("name", lrpc.__all__)
def test_every_public_name_explains_itself(name: str) -> None:
    found = getattr(lrpc, name)
    assert inspect.getdoc(found)
    own_init = inspect.isclass(found) and not issubclass(found, Exception)  # plain exceptions take any arguments
    if own_init or inspect.isfunction(found):
        assert inspect.signature(found) is not None


def test_every_method_of_a_domain_explains_itself() -> None:
    made = type(lrpc.Machine().domain())
    methods = {name: getattr(made, name) for name in dir(made) if not name.startswith("_")}
    callables = {name: found for name, found in methods.items() if callable(found)}
    assert {"bind", "compute", "export", "spawn"} <= callables.keys()
    assert [name for name, found in callables.items() if not inspect.getdoc(found)] == []
    assert "us" in inspect.signature(callables["compute"]).parameters
    assert inspect.getdoc(made)
    assert list(inspect.signature(made).parameters) == ["kernel", "number", "name"]
