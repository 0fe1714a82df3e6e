"""Messages point to documents where whoever reads them can get at them: a wheel brings none along."""

import ast
import re
import tomllib
from collections.abc import Iterator

from tests.documents.pieces import ROOT
from workflows_mcp.documents import FOLDER, document

MODULES = sorted(path for folder in ("src", "migrations") for path in (ROOT / folder).rglob("*.py"))


def said(source: str) -> Iterator[str]:
    """All texts of some code but for its docstrings."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_the_documents_are_where_the_projects_urls_say() -> None:
    """The metadata names the folder, messages the files in it."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert FOLDER.replace("/blob/", "/tree/") == urls["Documentation"]


def test_no_message_points_into_a_checkout() -> None:
    """What is pointed to exists, and has a URL."""
    named = set()
    for path in MODULES:
        source = path.read_text()
        assert not [text for text in said(source) if re.search(r"(?<!/)docs/\w", text)], path
        named |= set(re.findall(r"\bdocument\(['\"](.*?)['\"]\)", source))
    assert {"settings", "operations", "encryption"} <= named
    assert not [document(name) for name in named if not (ROOT / "docs" / f"{name}.md").is_file()]


def test_a_message_that_does_is_noticed() -> None:
    """The test above can fail."""
    assert list(said('"""docs/a.md"""\nx = f"{y}: see docs/b.md"')) == [": see docs/b.md"]
