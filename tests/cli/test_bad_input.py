"""Whatever is typed wrong, missing or broken: one line says what it is and what to do, and nothing stored changes."""

import asyncio
import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.conftest import ASKING, CLI, PASSWORD, Forks, Outcome, environment_in
from workflows_mcp.persistence.schema import SchemaManager

NOBODY = f"postgresql://somebody:{PASSWORD}@127.0.0.1:1/nothing"

WORKFLOWS = {
    "asking": ASKING,
    "cycle": "name: w\nblocks:\n"
    "- {id: a, type: Shell, inputs: {command: x}, depends_on: [b]}\n"
    "- {id: b, type: Shell, inputs: {command: x}, depends_on: [a]}\n",
    "type": "name: w\nblocks:\n- {id: a, type: Shel, inputs: {command: x}}\n",
    "expression": "name: w\nblocks:\n- {id: a, type: Shell, inputs: {command: '{{ inputs. }}'}}\n",
    "yaml": "name: [w\n",
}

ASK = ("run", "asking.yaml", "--input", "who=Ann", "--database-url")

# What is typed, the exit code, and what the one line on stderr has to say.
CASES: dict[str, tuple[tuple[str, ...], int, str]] = {
    "another product's URL": ((*ASK, f"mysql://root:{PASSWORD}@h/db"), 1, "'mysql' is not supported; give a file's"),
    "a typo in the scheme": ((*ASK, f"postgre://u:{PASSWORD}@h/db"), 1, "'postgre' is not supported; give a file's"),
    "no URL at all": ((*ASK, ""), 1, "no database is named; give"),
    ":memory:": ((*ASK, "sqlite:///:memory:"), 1, "use memory:// for a store in memory, or name a file"),
    "a folder that is missing": ((*ASK, "missing/runs.db"), 1, "there is no folder .*missing.*create it first"),
    "a folder that is read-only": ((*ASK, "/proc/runs.db"), 1, "'/proc/runs.db' cannot be created"),
    "a file that is no database": ((*ASK, "text.db"), 1, "is no SQLite database at all; check the path"),
    "a server that is not there": ((*ASK, NOBODY), 1, "does not answer .*; check that it runs and can be reached"),
    "a URL in place of a file": (("run", NOBODY), 1, "does not exist"),
    "a URL after a misspelt option": (("run", "w.yaml", f"--databse-url={NOBODY}"), 2, "Unknown option: --databse-url"),
    "no schema": ((*ASK, "base.db"), 1, "no checkpoints table yet; run: workflows-mcp db upgrade"),
    "an older schema": ((*ASK, "behind.db"), 1, "revision 0001, and this version needs 0003; run: workflows-mcp db up"),
    "a newer schema": ((*ASK, "ahead.db"), 1, "'9999', which is newer than 0003.*; upgrade workflows-mcp"),
    "pages of no schema": (
        ("ui", "--database-url", "base.db"),
        1,
        "no checkpoints table yet; run: workflows-mcp db up",
    ),
    "pages of an older schema": (
        ("ui", "--database-url", "behind.db"),
        1,
        "revision 0001, .*; run: workflows-mcp db u",
    ),
    "pages of a newer schema": (("ui", "--database-url", "ahead.db"), 1, "newer than 0003.*; upgrade workflows-mcp"),
    "pages of nothing": (("ui", "--database-url", "no.db"), 1, "create it with: workflows-mcp db upgrade"),
    "pages of what is in memory": (("ui", "--database-url", "memory://"), 1, "keeps nothing .*; name a database with"),
    "pages at no port": (("ui", "--port", "65536", "--database-url", "head.db"), 2, "65535"),
    "pages at no host of ours": (
        ("ui", "--host", "192.0.2.1", "--database-url", "head.db"),
        1,
        "no address of this ma",
    ),
    "somebody else's table": (("db", "upgrade", "--database-url", "foreign.db"), 1, "checkpoints"),
    "a database that is not there": (
        ("recover", "r", "--database-url", "no.db"),
        1,
        "create it with: workflows-mcp db",
    ),
    "a checkpoint that is not there": (
        ("resume", "nope", "--response", "x", "--database-url", "head.db"),
        1,
        "no such checkpoint; what waits: workflows-mcp runs list --status paused --database-url head.db",
    ),
    "a revision that is not there": (
        ("db", "downgrade", "7", "--database-url", "head.db"),
        1,
        "there is no revision '7'",
    ),
    "memory for a schema": (("db", "current", "--database-url", "memory://"), 1, "name a database"),
    "a workflow that is not there": (("run", "nope.yaml"), 1, "'nope.yaml' does not exist"),
    "a cycle": (("run", "cycle.yaml"), 1, "in a cycle: a -> b -> a"),
    "an unknown block type": (("run", "type.yaml"), 1, "no block type 'Shel'; there are Prompt, Shell"),
    "a broken expression": (("run", "expression.yaml"), 1, "block 'a', inputs.command: syntax error"),
    "broken YAML": (("run", "yaml.yaml"), 1, "yaml.yaml: line 2"),
    "a missing input": (("run", "asking.yaml", "--database-url", "head.db"), 1, r"input 'who' \(str\) is missing"),
    "a malformed input": (("run", "asking.yaml", "--input", "who"), 2, "NAME=VALUE, and 'who' is not"),
    "an input given twice": (("run", "asking.yaml", "--input", "a=1", "--input", "a=2"), 2, "given twice"),
    "an env file that is not there": ((*ASK, "head.db", "--env-file", "no.env"), 1, "env file 'no.env' does not exist"),
    "a folder that the demo cannot find": (("demo", "--path", "nowhere"), 1, "there is no folder .*; name one with"),
    "no command": (("fly",), 2, '^error: Unknown command "fly"; see: workflows-mcp --help$'),
    "nearly a command": (("rsume",), 2, 'Unknown command "rsume". Did you mean "resume"; see: workflows-mcp --help$'),
    "no command of a group": (("runs", "fly"), 2, '"fly". Available commands: list, .*delete; see: workflows-mcp runs'),
    "an option before the command": (
        ("--database-url=head.db", "recover"),
        2,
        "options go after the command: workflows-mcp COMMAND --database-url …; see: workflows-mcp --help$",
    ),
    "an option before the command of a group": (
        ("runs", "--json", "list"),
        2,
        "options go after the command: workflows-mcp runs COMMAND --json …",
    ),
    "a missing argument": (("run",), 2, "WORKFLOW requires an argument; see: workflows-mcp run --help"),
    "a negative limit": (("checkpoints", "list", "--limit", "-1"), 2, "Must be >= 1"),
    "a limit beyond all bounds": (("checkpoints", "list", "--limit", "9" * 30), 2, "Must be <= 1000000"),
    "no text to look for": (("runs", "list", "--contains", ""), 2, "--contains must have 1 to 512 bytes"),
    "no moment": (("runs", "list", "--since", "lately"), 2, "--since takes a date .* 2h or 7d, not 'lately'"),
    "no moment of any calendar": (("checkpoints", "list", "--until", "9" * 400), 2, "--until takes a date"),
    "no unit of time": (("checkpoints", "list", "--since", "5m"), 2, "5m: m may be minutes or months; write 5min"),
    "no cursor": (("checkpoints", "list", "--before", "yesterday"), 2, "--before takes the cursor"),
    "an id that cannot be one": (("checkpoints", "show", ""), 2, "must have 1 to 512 bytes"),
    "a run that is not there": (
        ("runs", "show", "r", "--database-url", "head.db"),
        1,
        "run 'r' in the SQLite database '.*/head.db'; those .* workflows-mcp runs list --database-url head.db",
    ),
    "a run to cancel that is not there": (("runs", "cancel", "r", "--database-url", "head.db"), 1, "no run 'r'"),
    "a run to recover that is not there": (("recover", "r", "--database-url", "head.db"), 1, "no run 'r'"),
    "a checkpoint to fork that is not there": (("runs", "fork", "c", "--database-url", "head.db"), 1, "no checkpoint"),
    "a workflow's name, and no library": (("run", "asking"), 1, "no workflow 'asking' .* WORKFLOWS_TEMPLATE_PATHS"),
    "a file of inputs that is not there": (
        ("run", "asking.yaml", "--inputs", "no.json"),
        1,
        "'no.json' cannot be read",
    ),
    "a file of inputs that holds none": (("run", "asking.yaml", "--inputs", "list.json"), 1, "a mapping of values by"),
    "a file of inputs that is no JSON": (("run", "asking.yaml", "--inputs", "bad.json"), 1, "bad.json: line 2: it is"),
    "a file of inputs that is no YAML": (("run", "asking.yaml", "--inputs", "yaml.yaml"), 1, "yaml.yaml: line 2"),
    "a watch over one run": (("recover", "r", "--watch"), 2, "--watch does not go together with one run"),
    "a lease of no time": (
        (*ASK, "head.db", "--env-file", "lease.env"),
        1,
        "WORKFLOWS_LEASE_SECONDS: .*greater than 0",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that can be wrong."""
    folder = tmp_path_factory.mktemp("bad")
    for name, text in WORKFLOWS.items():
        (folder / f"{name}.yaml").write_text(text)
    for name, text in {"list.json": "[1]", "bad.json": "{\n", "lease.env": "WORKFLOWS_LEASE_SECONDS=0\n"}.items():
        (folder / name).write_text(text)
    (folder / "text.db").write_text("This is a text, and a long one at that. " * 10)

    async def make_databases() -> None:
        for name in ("head", "ahead", "base"):
            await SchemaManager(str(folder / f"{name}.db")).upgrade()
        await SchemaManager(str(folder / "behind.db")).upgrade("0001")
        await SchemaManager(str(folder / "base.db")).downgrade("base")

    asyncio.run(make_databases())
    for name, statement in {
        "ahead": "UPDATE workflows_alembic_version SET version_num = '9999'",
        "foreign": "CREATE TABLE checkpoints (thread_id TEXT, ns TEXT, blob BLOB)",
    }.items():
        connection = sqlite3.connect(folder / f"{name}.db")
        connection.execute(statement)
        connection.commit()
        connection.close()
    return folder


@pytest.fixture(scope="module")
def files_before(folder: Path) -> Mapping[str, object]:
    """What the files hold before anything was typed."""
    return _contents(folder)


@pytest.fixture(scope="module")
def outcomes(folder: Path, files_before: Mapping[str, object], forks: Forks) -> dict[str, Outcome]:
    """What each command line came to."""
    assert files_before
    environment = {**environment_in(folder), "WORKFLOWS_DEADLINE_SECONDS": "1"}
    return {case: forks.run(list(words), folder, environment) for case, (words, _, _) in CASES.items()}


@pytest.mark.parametrize("case", CASES)
def test_one_line_says_what_is_wrong_and_what_to_do(outcomes: dict[str, Outcome], case: str) -> None:
    """On stderr: one line, so no traceback, and no password; stdout stays empty."""
    _, code, message = CASES[case]
    outcome = outcomes[case]
    assert re.search(message, outcome.error()), outcome.err
    assert PASSWORD not in outcome.err
    assert outcome.code == code
    assert outcome.out == ""


@pytest.mark.usefixtures("outcomes")
def test_nothing_that_was_stored_has_changed(folder: Path, files_before: Mapping[str, object]) -> None:
    """Nor was any file created, a database among them."""
    assert _contents(folder) == files_before


def test_a_payload_that_is_too_large_fails_its_run_and_says_so(cli: CLI, tmp_path: Path) -> None:
    """Eleven outputs of 1 MiB are more than the 10 MiB of a checkpoint; the run ends as a failure that is stored."""
    block = "- {id: b%d, type: Shell, inputs: {command: 'yes | head -c 1048576'}}\n"
    (tmp_path / "large.yaml").write_text("name: large\nblocks:\n" + "".join(block % number for number in range(11)))
    ran = cli("run", "large.yaml", "--json", "--database-url", "runs.db")
    assert ran.code == 1
    assert ran.json()["status"] == "failure"
    assert "the limit is 10,485,760. Keep large data in files" in ran.err.splitlines()[-1]


def test_a_setting_that_is_wrong_is_named(cli: CLI) -> None:
    """And neither guessed nor left to its default."""
    outcome = cli("checkpoints", "list", env={"WORKFLOWS_DEADLINE_SECONDS": "soon"})
    assert outcome.code == 1
    assert "WORKFLOWS_DEADLINE_SECONDS" in outcome.error()


def test_a_bug_is_one_line_too_and_the_traceback_is_there_when_asked_for(cli: CLI, tmp_path: Path) -> None:
    """The exception's own text is left out: it may quote what is stored."""
    (tmp_path / "sitecustomize.py").write_text(
        "from workflows_mcp.cli import run\ndef fail(*_): raise KeyError('a payload')\nrun.gather_inputs = fail\n"
    )
    broken = {"PYTHONPATH": str(tmp_path)}
    outcome = cli.finish(cli.start("run", "any.yaml", env=broken))
    assert outcome.code == 1
    assert re.search(r"unexpected KeyError at cli/run.py:\d+: a bug; set WORKFLOWS_DEBUG=1", outcome.error())
    with cli.start("run", "any.yaml", env={**broken, "WORKFLOWS_DEBUG": "1"}) as process:
        _, err = process.communicate()
    assert "Traceback" in err
    assert process.returncode == 1


def _contents(folder: Path) -> dict[str, object]:
    """The files by name: what a database holds, and the bytes of everything else."""
    kept = [path for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm"))]
    return {path.name: _rows(path) if path.suffix == ".db" else path.read_bytes() for path in kept}


def _rows(path: Path) -> list[str] | bytes:
    if path.name == "text.db":
        return path.read_bytes()
    connection = sqlite3.connect(path)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()
