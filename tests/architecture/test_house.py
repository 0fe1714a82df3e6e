"""The house stands as it is drawn: who may import whom, what is public, where the databases differ."""

import ast
import io
import statistics
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import workflows_mcp
from workflows_mcp import errors

PACKAGE = Path(workflows_mcp.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

MAY_IMPORT = {
    "errors": set(),
    "documents": set(),
    "settings": {"errors", "documents"},
    "engine": {"errors", "settings", "engine"},
    "persistence": {"errors", "documents", "settings", "engine", "persistence"},
    "testing": {"errors", "engine", "testing"},
    "telemetry": {"errors", "settings", "engine", "persistence", "telemetry"},
    "wiring": {"errors", "documents", "settings", "engine", "persistence", "telemetry"},
    "server": {"errors", "documents", "settings", "engine", "persistence", "telemetry", "wiring", "server"},
    "cli": {"errors", "documents", "settings", "engine", "persistence", "telemetry", "wiring", "server", "cli"},
}

DATABASE_PACKAGES = {"sqlalchemy", "alembic", "aiosqlite", "asyncpg", "sqlite3"}
TELEMETRY_PACKAGES = {"prometheus_client", "opentelemetry"}


def part_of(path: Path) -> str:
    """The part of the house that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(source: str) -> Iterator[str]:
    """All modules that some code imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def broken_laws(part: str, source: str) -> list[str]:
    """The imports that a part of the house may not make."""
    broken = []
    for name in imports(source):
        first, *rest = name.split(".")
        if first == "workflows_mcp" and rest and rest[0] not in MAY_IMPORT[part]:
            broken.append(name)
        if part in {"engine", "errors", "testing"} and first in DATABASE_PACKAGES:
            broken.append(name)
        if part != "telemetry" and first in TELEMETRY_PACKAGES:
            broken.append(name)
    return broken


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_part_may(path: Path) -> None:
    """errors, settings <- engine <- persistence <- telemetry <- server, cli; no database in the engine."""
    if part_of(path) in {"__init__", "__main__"}:
        return
    assert broken_laws(part_of(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("engine", "import sqlalchemy"),
        ("engine", "def f():\n    from sqlalchemy.ext import asyncio"),
        ("engine", "from workflows_mcp.persistence import store"),
        ("engine", "from workflows_mcp import persistence"),
        ("settings", "from workflows_mcp.engine import checkpoint"),
        ("persistence", "from workflows_mcp.cli import main"),
        ("errors", "import workflows_mcp.settings"),
        ("persistence", "import prometheus_client"),
        ("engine", "from opentelemetry import trace"),
    ],
)
def test_the_law_is_enforced(part: str, source: str) -> None:
    """The test above can fail."""
    assert broken_laws(part, source)


def code_words(source: str, *, strings: bool) -> Iterator[str]:
    """Names, and strings that are no docstrings, of some code."""
    tree = ast.parse(source)
    docstrings = {
        (node.value.lineno, node.value.col_offset)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_text = token.type == tokenize.STRING and token.start not in docstrings and strings
        if token.type == tokenize.NAME or is_text:
            yield token.string


def dialect_words(source: str, *, strings: bool = True) -> list[str]:
    """The words of some code that ask which database it is on."""
    asked = [
        word for word in code_words(source, strings=strings) if "sqlite" in word.lower() or "postgres" in word.lower()
    ]
    if "dialect.name" in source or "get_backend_name" in source:
        asked.append("dialect.name")
    return asked


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_dialects_know_which_database_it_is(path: Path) -> None:
    """Elsewhere neither a name nor a string speaks of one, but for settings' names and the command line's texts."""
    if "dialects" in path.parts or part_of(path) == "settings":
        return
    assert dialect_words(path.read_text(), strings=part_of(path) != "cli") == []


@pytest.mark.parametrize(
    "source",
    ["if engine.dialect.name == 'x': pass", "import sqlite3", "kind = 'postgresql'", "engine.url.get_backend_name()"],
)
def test_asking_for_the_dialect_is_noticed(source: str) -> None:
    """The test above can fail."""
    assert dialect_words(source)


def test_every_error_stands_in_the_drawn_tree() -> None:
    """Beneath the one that it derives from."""
    drawing = (errors.__doc__ or "").split("::")[1]
    for name in errors.__all__:
        line = next(line for line in drawing.splitlines() if name in line.split()[:4])
        is_store_error = line.startswith("    │") or name == "CheckpointStoreError"
        kind = getattr(errors, name)
        assert issubclass(kind, errors.WorkflowsError)
        assert issubclass(kind, errors.CheckpointStoreError) is is_store_error


def import_seconds(module: str) -> float:
    """How long a new process takes to import a module."""
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


def test_importing_the_package_costs_no_more_than_sqlalchemy() -> None:
    """At most what SQLAlchemy's asyncio extension costs and 100 ms more; medians of five turns."""
    turns = [(import_seconds("sqlalchemy.ext.asyncio"), import_seconds("workflows_mcp")) for _ in range(5)]
    sqlalchemy, ours = (statistics.median(column) for column in zip(*turns, strict=True))
    assert ours <= sqlalchemy + 0.1
