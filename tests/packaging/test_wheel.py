"""The wheel, put by pip into an environment that holds nothing else: what a user has after `pip install`."""

import json
from pathlib import Path

from tests.packaging.conftest import ROOT, call, run

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

DATABASE = ("--database-url", "hello.db")


def test_the_schema_is_made_and_a_workflow_runs(installed: Path, tmp_path: Path) -> None:
    """`db upgrade`, `run`, `checkpoints list`, from an empty folder."""
    (tmp_path / "hello.yaml").write_text(WORKFLOW)
    command = installed / "workflows-mcp"
    run(command, "db", "upgrade", *DATABASE, cwd=tmp_path)
    printed = run(command, "run", "hello.yaml", "--input", "name=you", "--json", *DATABASE, cwd=tmp_path)
    result = json.loads(printed)
    assert (result["status"], result["outputs"]) == ("success", {"greeting": "Hello, you"})
    listed = json.loads(run(command, "checkpoints", "list", "--json", *DATABASE, cwd=tmp_path))
    assert [one["status"] for one in listed["checkpoints"]] == ["completed", "running", "running"]


def test_a_program_that_embeds_the_store_works_with_postgresql(
    installed: Path, tmp_path: Path, postgres_url: str
) -> None:
    """From the plain install, as from a checkout."""
    printed = run(installed / "python", ROOT / "examples" / "embed_store.py", postgres_url, cwd=tmp_path)
    assert "loaded True" in printed


def test_the_module_is_the_command(installed: Path, tmp_path: Path) -> None:
    """`python -m workflows_mcp` calls itself by the command's name, too."""
    shown = run(installed / "workflows-mcp", "--help", cwd=tmp_path)
    assert shown.startswith("Usage: workflows-mcp COMMAND")
    assert run(installed / "python", "-m", "workflows_mcp", "--help", cwd=tmp_path) == shown


def test_the_package_is_imported_from_the_wheel_with_what_it_needs(installed: Path, tmp_path: Path) -> None:
    """Its public names are there, the migrations, the demo's workflow, and the version."""
    code = "import workflows_mcp as w; [getattr(w, name) for name in w.__all__]; print(w.__version__, w.__path__[0])"
    version, folder = run(installed / "python", "-c", code, cwd=tmp_path).split()
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text()
    assert installed.parent in Path(folder).parents
    shipped = Path(folder, "_examples", "release-check.yaml")
    assert shipped.read_text() == (ROOT / "examples" / "release-check.yaml").read_text()


def test_states_for_tests_are_made_without_pytest(installed: Path, tmp_path: Path) -> None:
    """The documents use them to have something to save; the contract alone says what it lacks."""
    code = (
        "from workflows_mcp.testing import assert_same, make_state; state = make_state('a'); assert_same(state, state)"
    )
    run(installed / "python", "-c", code, cwd=tmp_path)
    done = call(installed / "python", "-c", "from workflows_mcp.testing import CheckpointStoreContract", cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'pytest'"
