"""What the documents show works as they show it, and what they link to is there."""

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from workflows_mcp import SQLAlchemyCheckpointStore, WorkflowExecutor

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]

NOT_RUN = {
    "git clone https://github.com/workflows-mcp/workflows-mcp && cd workflows-mcp": "tests/packaging, .ci/run",
    "python3 run.py test          # installs everything into .venv/ first; a real PostgreSQL 18 comes along": ".ci/run",
    "python3 run.py bench --turns 3 --save docs/performance": ".ci/run, with --quick",
    "python3 run.py bench probe": ".ci/run, with fewer rows",
    "python3 run.py faults --quick                       # three minutes; without --quick about twenty-five": ".ci/run",
}
"""Blocks that other checks run, by their first line."""


@dataclass(frozen=True)
class Block:
    """A piece of code in a document."""

    language: str
    code: str
    is_run: bool


def blocks_of(path: Path) -> list[Block]:
    """All pieces of code in a document."""
    found = re.finditer(r"(<!-- run -->\n)?^```(\w+)\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(match[2], match[3], is_run=match[1] is not None) for match in found]


def run(block: Block, folder: Path, environment: dict[str, str]) -> str:
    """Run a piece of code in a folder; what it prints."""
    if block.language == "yaml":
        definition = WorkflowExecutor().load_workflow(block.code)
        return definition.name
    command = ["/bin/sh", "-e", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    code = block.code
    if "CHECKPOINT" in code:
        code = code.replace("CHECKPOINT", asyncio.run(newest_pause(folder / "hello.db")))
    done = subprocess.run([*command, code], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block.code}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


async def newest_pause(path: Path) -> str:
    """The id of the newest checkpoint that waits."""
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        return (await store.list_checkpoints(is_paused=True, limit=1))[0].checkpoint_id


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The commands of this environment, and a home folder of its own."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("WORKFLOWS_", "COLUMNS"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }


def run_all(path: Path, folder: Path, environment: dict[str, str]) -> list[str]:
    """Run the code of a document, one piece after the other, in one folder; what each printed."""
    printed = []
    for block in blocks_of(path):
        first = block.code.splitlines()[0]
        if block.is_run or block.language == "python":
            printed.append(run(block, folder, environment))
        elif block.language == "bash":
            assert first in NOT_RUN, f"nothing runs this: {first}"
    return printed


def test_the_readmes_code_does_what_it_says(tmp_path: Path, environment: dict[str, str]) -> None:
    """The loaded state, the greeting, the question, the answers, the schema."""
    embedded, lost, asked, _, from_python, schema = run_all(ROOT / "README.md", tmp_path, environment)
    assert embedded == "{'rows_done': 1200}\n"
    assert "'import-43-2' was not saved" in lost
    assert "Send this? Hello, Ada!" in asked
    assert "workflows-mcp resume" in asked
    assert "Send this? Hello, Grace!" in from_python
    assert "'sent': False" in from_python
    assert "0002" in schema


@pytest.mark.parametrize("path", DOCUMENTS[1:], ids=lambda path: path.name)
def test_the_code_in_a_document_runs(path: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """All of it, or something else is named that runs it."""
    run_all(path, tmp_path, environment)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_links_to_is_there(path: Path) -> None:
    """Files of the project; the web is not asked."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert missing == []


def test_every_setting_is_documented() -> None:
    """By the name of its variable."""
    from workflows_mcp.settings import Settings

    text = (ROOT / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        variables = (
            [f"WORKFLOWS_{name.upper()}"] if alias is None else [str(one) for one in getattr(alias, "choices", [alias])]
        )
        for variable in variables:
            assert f"`{variable}`" in text, variable


def test_the_projects_files_speak_of_the_project_alone() -> None:
    """No path of somebody's machine, no registry, in any file that git keeps."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.split("\0") if name]
    assert len(names) > 50
    forbidden = re.compile(r"/root/|/home/\w+/|pypi\.org|files\.pythonhosted\.org|/work/")
    found = {
        name: match[0]
        for name in names
        if (ROOT / name).is_file()
        and (match := forbidden.search((ROOT / name).read_text(errors="replace")))
        and name != "tests/test_documents.py"
    }
    assert found == {}


def test_the_readme_begins_with_two_commands() -> None:
    """The ones that a newcomer types."""
    first = blocks_of(ROOT / "README.md")[0]
    assert first.code.splitlines()[1:] == ["python3 run.py demo", "python3 run.py test"]
