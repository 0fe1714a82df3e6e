"""What users build on changes when somebody means it to, and never by the way."""

import ast
import importlib
from pathlib import Path

import pytest

import workflows_mcp
from tests import public_api
from tests.documents.pieces import DOCUMENTS, ROOT, blocks_of
from workflows_mcp import errors

COMMAND = "python3 run.py python -m tests.public_api"


def test_the_public_interface_is_as_it_was_written_down() -> None:
    """Names, signatures, errors, commands, options, settings: a change of them is a change of a committed file."""
    assert public_api.FILE.read_text() == public_api.describe(), f"look at the difference; if it is meant: {COMMAND}"


def test_the_public_names_are_sorted_and_loaded_when_they_are_used() -> None:
    """And no other name is there by accident."""
    assert workflows_mcp.__all__ == sorted(workflows_mcp.__all__)
    for name in workflows_mcp.__all__:
        assert getattr(workflows_mcp, name).__name__ == name
    assert set(workflows_mcp.__all__) | {"__version__"} <= set(dir(workflows_mcp))
    assert set(errors.__all__) <= set(workflows_mcp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = workflows_mcp.absent


SHOWN = [
    *((path.name, block.code) for path in DOCUMENTS for block in blocks_of(path) if block.language == "python"),
    *((path.name, path.read_text()) for path in sorted((ROOT / "examples").glob("*.py"))),
]


@pytest.mark.parametrize(("name", "code"), SHOWN, ids=[name for name, _ in SHOWN])
def test_what_the_documents_import_is_public(name: str, code: str) -> None:
    """Whoever copies it may rely on it."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "workflows_mcp":
            module = importlib.import_module(str(node.module))
            assert node.module in public_api.PUBLIC, f"{name}: add it to tests/public_api.py"
            assert {alias.name for alias in node.names} <= {*public_api.names_of(module), "__version__"}, name
        elif isinstance(node, ast.Import):
            named = {alias.name for alias in node.names if alias.name.startswith("workflows_mcp.")}
            assert named <= set(public_api.PUBLIC), f"{name}: add it to tests/public_api.py"


def test_the_version_is_that_of_the_installed_package() -> None:
    """It stands in one place, pyproject.toml."""
    assert f'\nversion = "{workflows_mcp.__version__}"\n' in (Path(ROOT) / "pyproject.toml").read_text()
