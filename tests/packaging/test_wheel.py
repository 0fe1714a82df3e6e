"""The wheel, in an environment that holds nothing else: it brings its migrations and its example along."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WORKFLOW = """
name: hello
inputs:
  name: {description: Who is greeted}
blocks:
  - id: greet
    type: Shell
    inputs: {command: "printf 'Hello, %s' {{ inputs.name | shquote }}"}
outputs:
  greeting: "{{ blocks.greet.outputs.stdout }}"
"""


@pytest.fixture(scope="session")
def uv() -> str:
    """The uv that runs these tests."""
    found = os.environ.get("UV") or shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".uv" / "bin"))
    assert found, "uv is needed to build the wheel; start the tests with: python3 run.py test"
    return found


@pytest.fixture(scope="session")
def installed(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    run(uv, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT, cwd=folder)
    [wheel] = folder.glob("*.whl")
    run(uv, "venv", "--quiet", folder / "venv", cwd=folder)
    # From the project's root, so that its date limits what is installed here, too.
    run(uv, "pip", "install", "--quiet", "--python", folder / "venv", wheel, cwd=ROOT)
    return folder / "venv" / "bin"


def run(*command: object, cwd: Path) -> str:
    """What a command prints; it must succeed. No setting, and no checkout on its path."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WORKFLOWS_", "CHECKPOINT_", "STORAGE_", "SQLITE_", "PYTHONPATH", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_schema_is_made_and_a_workflow_runs(installed: Path, tmp_path: Path) -> None:
    """`db upgrade`, `run`, `checkpoints list`, from an empty folder."""
    (tmp_path / "hello.yaml").write_text(WORKFLOW)
    database = ("--database-url", "hello.db")
    run(installed / "workflows-mcp", "db", "upgrade", *database, cwd=tmp_path)
    run(installed / "workflows-mcp", "db", "check", *database, cwd=tmp_path)
    printed = run(
        installed / "workflows-mcp", "run", "hello.yaml", "--input", "name=you", "--json", *database, cwd=tmp_path
    )
    result = json.loads(printed)
    assert (result["status"], result["outputs"]) == ("success", {"greeting": "Hello, you"})
    listed = json.loads(run(installed / "workflows-mcp", "checkpoints", "list", "--json", *database, cwd=tmp_path))
    assert [one["status"] for one in listed["checkpoints"]] == ["completed", "running", "running"]


def test_the_package_is_imported_and_typed(installed: Path, tmp_path: Path) -> None:
    """Its public names are there, and so is the marker for type checkers."""
    code = "import workflows_mcp as w; [getattr(w, name) for name in w.__all__]; print(w.__file__)"
    package = Path(run(installed / "python", "-c", code, cwd=tmp_path).strip()).parent
    assert installed.parent in package.parents
    for file in ("py.typed", "_migrations/env.py", "_migrations/versions/0001_the_guides_table.py"):
        assert (package / file).is_file()


def test_the_demos_workflow_comes_along(installed: Path, tmp_path: Path) -> None:
    """As it is in the checkout."""
    code = "import workflows_mcp; print(workflows_mcp.__path__[0])"
    package = Path(run(installed / "python", "-c", code, cwd=tmp_path).strip())
    shipped = package / "_examples" / "release-check.yaml"
    assert shipped.read_text() == (ROOT / "examples" / "release-check.yaml").read_text()
