"""What the documents show works as they show it, and what they link to is there."""

import asyncio
import dataclasses
import itertools
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.documents.pieces import DOCUMENTS, ROOT, Block, anchors_of, blocks_of, command_lines, links_of, spans_of
from tests.documents.running import Reader, names_of_databases
from tests.documents.words import PRODUCT, problems_in, problems_in_span, product_commands
from tests.migrations import raw
from workflows_mcp import SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.persistence.dialects import dialect_for
from workflows_mcp.persistence.schema import SchemaManager
from workflows_mcp.testing import make_state


@pytest.fixture
def reader(tmp_path: Path, quick_commands: Path) -> Reader:
    """Somebody who does what a document says, in an empty folder."""
    return Reader(tmp_path, quick_commands)


@pytest.fixture
def reader_with_server(path: Path, reader: Reader, request: pytest.FixtureRequest) -> Iterator[Reader]:
    """The same, with a PostgreSQL server if the document needs one, and there the databases that it names, at head."""
    names = names_of_databases(blocks_of(path))
    if names is None:
        yield reader
        return
    server, template = request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_template")
    whole = dataclasses.replace(reader, server=server, prefix=f"documents_{os.getpid()}_", databases=frozenset(names))
    asyncio.run(raw.execute(server, *(f'CREATE DATABASE "{whole.prefix}{name}" TEMPLATE {template}' for name in names)))
    try:
        yield whole
    finally:
        made = asyncio.run(raw.fetch(server, f"SELECT datname FROM pg_database WHERE datname ^@ '{whole.prefix}'"))
        asyncio.run(raw.execute(server, *(f'DROP DATABASE "{name}" WITH (FORCE)' for [name] in made)))


def run_all(path: Path, reader: Reader) -> list[str]:
    """Run the code of a document, one piece after the other; what each printed."""
    return [reader.run(block) for block in blocks_of(path) if block.is_run]


def test_the_readmes_code_does_what_it_says(reader: Reader) -> None:
    """The loaded state, the greeting, the question, the answers, the schema."""
    embedded, lost, asked, _, from_python, schema = run_all(ROOT / "README.md", reader)
    assert embedded == "{'rows_done': 1200}\n"
    assert "'import-43-2' was not saved" in lost
    assert "Send this? Hello, Ada!" in asked
    assert "workflows-mcp resume" in asked
    assert "Send this? Hello, Grace!" in from_python
    assert "'sent': False" in from_python
    assert "0003" in schema


PRINTED = {
    "quickstart.md": ["fetch\nload\nload\n", "no orders.py yet", "2 passed"],
    "interactive-blocks.md": [
        "published: true",
        "pages[terms]/verdict",
        "too late: checkpoint",
        "'no'",
        "False",
    ],
}
"""What the code of a document must print, of what the text around it says."""


@pytest.mark.parametrize("path", DOCUMENTS[1:], ids=lambda path: path.name)
async def test_the_code_in_a_document_runs(path: Path, reader_with_server: Reader) -> None:
    """All that is not marked otherwise."""
    printed = "".join(await asyncio.to_thread(run_all, path, reader_with_server))
    assert [text for text in PRINTED.get(path.name, ()) if text not in printed] == []


def left_out(block: Block) -> str | None:
    """What keeps a piece of code from being as it must be; None: nothing."""
    if block.is_run and block.mark not in {None, "run", "run: postgresql"}:
        return f"nobody knows what this means: {block.mark}"
    shown = block.language in {"bash", "sql"} or command_lines(block.code)
    if block.is_run or not (shown or block.mark):
        return None
    if not block.reason:
        return (
            f"nothing runs this; say <!-- run -->, or <!-- not run: WHY --> before it (CONTRIBUTING.md): {block.code}"
        )
    named = re.findall(r"(?:tests|benchmarks)/[\w./]+\w", block.reason)
    missing = [name for name in named if not (ROOT / name).exists()]
    return f"{missing} are not there, which are said to run this: {block.code}" if missing else None


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_a_document_shows_is_run_or_says_why_not(path: Path) -> None:
    """In whatever block of code it stands: a `text` is no hiding place."""
    assert [problem for block in blocks_of(path) if (problem := left_out(block))] == []


@pytest.mark.parametrize(
    "block",
    [
        Block("bash", "true"),
        Block("text", "$ workflows-mcp doctor"),
        Block("console", "cd x && .venv/bin/workflows-mcp doctor"),
        Block("bash", "true", "run: mysql"),
        Block("", "CHECKPOINT_DB_PATH=a.db workflows-mcp doctor"),
        Block("yaml", "- run\n", "not run:"),
        Block("python", "1", "not run: by tests/absent.py"),
        Block("bash", "true", "ru"),
        Block("sql", "SELECT 1"),
    ],
    ids=lambda block: block.language,
)
def test_a_command_that_nothing_runs_is_noticed(block: Block) -> None:
    """The test above can fail."""
    assert left_out(block)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_that_a_document_names_exists(path: Path) -> None:
    """In code that is run, in code that is not, and in the middle of a sentence."""
    blocks = (block.code for block in blocks_of(path) if block.language != "python")
    assert [problem for text in blocks for problem in problems_in(text)] == []
    assert [problem for text in spans_of(path) for problem in problems_in_span(text)] == []


OTHER_FILES = [
    *(ROOT / name for name in (".env.example", "docker-compose.yml")),
    *(path for path in sorted((ROOT / "docs").rglob("*.*")) if path.suffix in {".yaml", ".yml", ".json", ".service"}),
]


@pytest.mark.parametrize("path", OTHER_FILES, ids=lambda path: path.name)
def test_every_command_in_a_file_that_users_copy_exists(path: Path) -> None:
    """Settings, services, alerts that say what to do."""
    assert problems_in(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "workflows-mcp runs lists",
        "use workflows-mcp runs list|shows --json",
        "workflows-mcp run FILE --jsn | cat",
        "A=b workflows-mcp runs show \\\n  RUN_ID --no-wait",
        "python3 run.py workflows-mcp db upgrad",
        "python3 run.py bench --quik",
        "python3 run.py nothing",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(text: str) -> None:
    """The tests above can fail."""
    assert len(problems_in(text)) == 1


@pytest.mark.parametrize(
    "text", ["runs lists", "db upgrade|downgrad", "run FILE --jsn", "--jsn", "workflows-mcp doctr"]
)
def test_an_inline_command_that_does_not_exist_is_noticed(text: str) -> None:
    """By itself, and with the program before it."""
    assert len(problems_in_span(text)) == 1


def test_the_readmes_table_has_every_command() -> None:
    """Its first column is the list of what there is."""
    table = (ROOT / "README.md").read_text().partition("| command | |")[2].partition("\n\n")[0]
    shown = set()
    for row in table.splitlines():
        for span in re.findall(r"`([a-z][^`]*)`", re.split(r"(?<!\\)\|", f"{row}||")[1]):
            words = span.replace("\\", "").split()
            names = (word.split("|") for word in words if re.match(r"[a-z]", word))
            shown |= set(itertools.product([PRODUCT], *names))
    there = {command for command, app in product_commands().items() if app.default_command}
    assert shown == there


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


def test_a_backup_is_whole_and_is_restored_over_what_a_dead_process_left(tmp_path: Path, reader: Reader) -> None:
    """As the document says: made while others save, and put in the place of a file with a `-wal` file beside it."""
    back_up, restore = (
        next(block for block in blocks_of(ROOT / "docs" / "operations.md") if block.is_run and word in block.code)
        for word in ("db backup", "db restore")
    )
    asyncio.run(upgrade_schema(tmp_path / "checkpoints.db"))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", SAVES_TO_ITS_DEATH], cwd=tmp_path, text=True, **pipes) as saving:  # type: ignore[call-overload] # pipes by name
        assert saving.stdout.readline() == "half\n"
        reader.run(back_up)
        saving.stdin.write("\n")
        saving.stdin.flush()
        assert saving.stdout.readline() == "all\n"
        saving.kill()
    assert (tmp_path / "checkpoints.db-wal").stat().st_size > 0
    reader.run(restore)
    assert stat.S_IMODE((tmp_path / "checkpoints.db").stat().st_mode) == 0o600
    [kept] = tmp_path.glob("checkpoints.db.before-*")
    assert asyncio.run(ids_in(str(kept))) == [f"c{number:02}" for number in range(40)]
    assert asyncio.run(ids_in(str(tmp_path / "checkpoints.db"))) == [f"c{number:02}" for number in range(20)]


@pytest.mark.parametrize("path", [ROOT / "docs" / "operations.md"], ids=lambda path: path.name)
async def test_a_dump_is_restored_as_the_document_says(path: Path, reader_with_server: Reader) -> None:
    """By what `db backup` and `db restore` print: into a new database, which the store then takes; ours alone."""
    url = reader_with_server.url_of("workflows")
    async with SQLAlchemyCheckpointStore(url) as store:
        await store.save_checkpoint(make_state())
    await raw.execute(url, "CREATE TABLE somebody_elses (x int)")
    shown = [block for block in blocks_of(path) if "backup.dump" in block.code]
    dialect, file = dialect_for("postgresql://user@host/workflows"), Path("backup.dump")
    printed = [make(file) for make in (dialect.backup_commands, dialect.restore_commands)]
    assert [list(map(shlex.split, block.code.splitlines())) for block in shown] == [
        list(map(shlex.split, commands)) for commands in printed
    ]
    for block in shown:
        await asyncio.to_thread(reader_with_server.run, block)
    assert stat.S_IMODE((reader_with_server.folder / file).stat().st_mode) == 0o600
    restored = reader_with_server.url_of("workflows_restored")
    await SchemaManager(restored).check()
    assert await ids_in(restored) == ["checkpoint"]
    assert not any("somebody_elses" in table for table in await raw.table_names(restored))


async def test_a_schema_of_its_own_is_dumped_and_restored_by_the_commands(reader: Reader, postgres_url: str) -> None:
    """Whatever its name and the file's have in them, and whatever keys name the database; a dump has no rights."""
    parts = urlsplit(postgres_url)
    name = parts.path.strip("/")
    keys = f"dbname={name}&ssl=disable&connect_timeout=7.5&schema=Flows%20%22A%22"
    url = f"{parts.scheme}://{parts.netloc}?{parts.query}&{keys}"
    await upgrade_schema(url)
    async with SQLAlchemyCheckpointStore(url) as store:
        await store.save_checkpoint(make_state())
    dialect, file = dialect_for(url), Path("-schema.dump")
    commands = [*dialect.backup_commands(file), *dialect.restore_commands(file)]
    await asyncio.to_thread(reader.run, Block("bash", "\n".join(commands), "run"))
    restored = url.replace(f"dbname={name}", f"dbname={name}_restored")
    roles = {"OWNER": f"{name}_owner", "APP": f"{name}_app"}
    try:
        await SchemaManager(restored).check()
        assert await ids_in(restored) == ["checkpoint"]
        assert "# where roles have rights of their own: workflows-mcp db grants --owner OWNER --app APP" in commands[-1]
        grants = commands[-1].partition(": ")[2]
        for placeholder, role in roles.items():
            await raw.execute(postgres_url, f"CREATE ROLE {role} LOGIN")
            grants = grants.replace(placeholder, role)
        await asyncio.to_thread(reader.run, Block("bash", grants, "run"))
        assert await ids_in(restored.replace("postgres:", f"{roles['APP']}:", 1)) == ["checkpoint"]
    finally:
        await raw.execute(postgres_url, f'DROP DATABASE "{name}_restored"', *(f"DROP ROLE {r}" for r in roles.values()))


async def ids_in(url: str) -> list[str]:
    """The ids of all checkpoints, each of which can be loaded, in their order."""
    async with SQLAlchemyCheckpointStore(url) as store:
        found = sorted([one.checkpoint_id for one in await store.list_checkpoints()])
        for checkpoint_id in found:
            assert await store.load_checkpoint(checkpoint_id) is not None
        return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_links_to_is_there(path: Path) -> None:
    """Files of the project, and headings in them; the web is not asked."""
    for link, anchor in links_of(path):
        target = path.parent / link if link else path
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), f"{link}#{anchor}"


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
    """No path of somebody's machine, no registry, in any file that git keeps, or that an sdist has."""
    folders = ("src", "tests", "docs", "migrations", "benchmarks", "examples")
    names = [path.relative_to(ROOT) for name in folders for path in (ROOT / name).rglob("*.*") if path.is_file()]
    if (ROOT / ".git").exists():
        listing = ["git", "ls-files", "-z"]
        listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        names = [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]
    assert len(names) > 50
    forbidden = re.compile(r"/root/|/home/\w+/|pypi\.org|files\.pythonhosted\.org|/work/")
    found = {
        str(name): match[0]
        for name in names
        if name.suffix != ".pyc" and name != Path("tests/test_documents.py")
        if (match := forbidden.search((ROOT / name).read_text(errors="replace")))
    }
    assert found == {}


def test_the_readme_begins_with_two_commands() -> None:
    """The ones that a newcomer types."""
    first = next(block for block in blocks_of(ROOT / "README.md") if block.language == "bash")
    assert first.code.splitlines()[1:] == ["python3 run.py demo", "python3 run.py test"]
