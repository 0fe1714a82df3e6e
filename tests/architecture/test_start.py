"""What a server loads before it answers the client that has started it: nothing that the answer does not need."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import workflows_mcp

PACKAGE = Path(workflows_mcp.__file__).parent

FIRST = ("workflows_mcp.cli.entry", "workflows_mcp.cli.serve_client", "workflows_mcp.server.stdio")

TOO_HEAVY = {"sqlalchemy", "alembic", "aiosqlite", "asyncpg", "cyclopts", "rich"}


def loaded_by(module: str) -> Iterator[str]:
    """The modules that a module of ours imports as it is loaded: not in its functions, nor for types alone."""
    path = PACKAGE.parent / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for statement in ast.parse(file.read_text()).body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.module is not None
            yield statement.module
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def is_ours(name: str) -> bool:
    """Whether this is a module of the package, and no name in one."""
    path = PACKAGE.parent / Path(*name.split("."))
    return name.startswith("workflows_mcp.") and (path.is_dir() or path.with_suffix(".py").is_file())


def all_loaded_by(*modules: str) -> dict[str, str]:
    """All that is loaded with some modules, and by which module of ours."""
    found: dict[str, str] = {}
    left = list(modules)
    while left:
        module = left.pop()
        for name in loaded_by(module):
            if name not in found:
                found[name] = module
                left += [name] if is_ours(name) else []
    return found


def test_nothing_heavy_is_loaded_before_the_first_answer() -> None:
    """No database, and nothing that reads or prints for people: a client waits."""
    found = {name: by for name, by in all_loaded_by(*FIRST).items() if name.split(".")[0] in TOO_HEAVY}
    assert found == {}


@pytest.mark.parametrize("module", ["workflows_mcp.cli.app", "workflows_mcp.persistence.store"])
def test_what_is_heavy_is_found(module: str) -> None:
    """The test above can fail: also by what a module of ours loads."""
    assert {name.split(".")[0] for name in all_loaded_by(module)} & TOO_HEAVY
