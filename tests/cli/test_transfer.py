"""`checkpoints export`, `import` and `copy`."""

import asyncio
import contextlib
import io
import json
import re
import shutil
import signal
import sqlite3
import stat
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from tests.cli.conftest import CLI, PASSWORD
from workflows_mcp import InMemoryCheckpointStore, SQLAlchemyCheckpointStore, export_checkpoints
from workflows_mcp.cli import progress
from workflows_mcp.cli.page import Page
from workflows_mcp.engine.stored import StoredCheckpoint
from workflows_mcp.testing import make_state
from workflows_mcp.testing.transfer import fill


@pytest.fixture
def runs(sqlite_template: Path, tmp_path: Path) -> Path:
    """A database with a checkpoint of each kind, in the command's folder."""
    path = Path(shutil.copy(sqlite_template, tmp_path / "runs.db"))

    async def save() -> None:
        async with SQLAlchemyCheckpointStore(str(path)) as store:
            await fill(store)

    asyncio.run(save())
    return path


async def export_many(path: Path, count: int) -> None:
    """Export so many checkpoints to a file."""

    class Many(InMemoryCheckpointStore):
        async def iter_stored(self, *_arguments: object, **_options: object) -> AsyncIterator[StoredCheckpoint]:
            for number in range(count, 0, -1):
                yield StoredCheckpoint(make_state(f"{number}", created_at=float(number)))

    await export_checkpoints(Many(), path)


@pytest.mark.usefixtures("runs")
def test_an_export_is_imported_into_a_new_database(cli: CLI, tmp_path: Path) -> None:
    """Both tell how many, how fast, and the digest, which is the same; a second import finds all of it there."""
    export = cli("checkpoints", "export", "runs.jsonl", "--database-url", "runs.db")
    assert export.out.startswith("exported 7 checkpoints to 'runs.jsonl' in ")
    assert export.err == ""
    first = cli("checkpoints", "import", "runs.jsonl", "--database-url", "new.db")
    assert "imported 7 checkpoints in " in first.out
    assert ": 7 new\n" in first.out
    assert first.err == f"created the SQLite database '{tmp_path / 'new.db'}'\n"
    assert first.out.splitlines()[1] == export.out.splitlines()[1]
    again = cli("checkpoints", "import", "runs.jsonl", "--json", "--database-url", "new.db").json()
    assert (again["count"], again["written"], again["present"]) == (7, 0, 7)
    listed = cli("checkpoints", "list", "--paused", "--json", "--database-url", "new.db").json()
    assert [one["checkpoint_id"] for one in listed["checkpoints"]] == ["asked"]


@pytest.mark.usefixtures("runs")
def test_filters_are_those_of_a_listing_and_of_time(cli: CLI) -> None:
    """In an export as in a copy."""
    words = ("--workflow", "workflow", "--run", "done", "--status", "completed", "--no-paused")
    times = ("--created-after", "1970-01-01T00:00:02+00:00", "--created-before", "2.5")
    export = cli("checkpoints", "export", "x.zst", "--json", *words, *times, "--database-url", "runs.db").json()
    assert (export["count"], export["file"]) == (1, "x.zst")
    copy = cli("checkpoints", "copy", "runs.db", "new.db", "--json", "--created-before", "2.5").json()
    assert (copy["count"], copy["written"]) == (2, 2)


@pytest.mark.usefixtures("runs")
def test_checkpoints_go_through_a_pipe(cli: CLI) -> None:
    """`-` is stdout and stdin; what is told goes to stderr then."""
    export = cli("checkpoints", "export", "-", "--database-url", "runs.db")
    assert export.out.count("\n") == 9
    assert export.err.startswith("exported 7 checkpoints to stdout")
    imported = cli("checkpoints", "import", "-", "--database-url", "new.db", stdin=export.out)
    assert ": 7 new\n" in imported.out


@pytest.mark.usefixtures("runs")
def test_a_copy_tells_what_it_did(cli: CLI, tmp_path: Path) -> None:
    """For people and for programs; the digest is that of an export."""
    copy = cli("checkpoints", "copy", "runs.db", "new.db")
    assert copy.code == 0
    assert copy.out.startswith("copied 7 checkpoints in ")
    assert f"to   SQLite database '{tmp_path / 'new.db'}'\n" in copy.out
    again = cli("checkpoints", "copy", "runs.db", "new.db", "--json", "--on-conflict", "replace").json()
    assert (again["count"], again["present"], again["differing"], again["left_out"]) == (7, 7, [], [])
    digest = cli("checkpoints", "export", "x", "--json", "--database-url", "new.db").json()["digest"]
    assert f"Read back and compared: all are there. {digest}\n" in copy.out


def test_what_is_left_out_or_differs_is_named_and_exits_1(cli: CLI, runs: Path) -> None:
    """A damaged checkpoint of the source, and one that something in the target changes."""
    with closing(sqlite3.connect(runs)) as connection, connection:
        connection.execute("UPDATE checkpoints SET payload = payload || x'00' WHERE checkpoint_id = 'free'")
    export = cli("checkpoints", "export", "x", "--database-url", "runs.db")
    assert export.code == 1
    assert "left out: the payload of checkpoint 'free' is damaged" in export.err
    assert "1 could not be read, and was left out." in export.out
    imported = cli("checkpoints", "import", "x", "--database-url", "new.db")
    assert imported.code == 0
    assert "The export had left out 1" in imported.out
    with closing(sqlite3.connect(runs.with_name("new.db"))) as connection, connection:
        connection.executescript(
            "DELETE FROM checkpoints WHERE checkpoint_id = 'held'; CREATE TRIGGER t AFTER INSERT ON checkpoints BEGIN "
            "UPDATE checkpoints SET payload = x'00' WHERE checkpoint_id = new.checkpoint_id; END"
        )
    copy = cli("checkpoints", "copy", "runs.db", "new.db")
    assert copy.code == 1
    assert (
        "1 are not there as they were copied; somebody has changed or deleted them, or works on them:\n  held\n"
        in copy.out
    )
    again = cli("checkpoints", "copy", "runs.db", "new.db", "--json", "--on-conflict", "replace")
    data = again.json()
    assert again.code == 1
    assert [one["checkpoint_id"] for one in data["left_out"]] == ["free"]
    assert (data["replaced"], data["differing"]) == (1, [])


def test_heads_that_others_follow_elsewhere_are_told(cli: CLI, runs: Path) -> None:
    """Of an import and of a copy, for people and for programs."""
    cli("checkpoints", "copy", "runs.db", "new.db")
    cli("checkpoints", "export", "x", "--database-url", "runs.db")
    with closing(sqlite3.connect(runs.with_name("new.db"))) as connection, connection:
        connection.execute(
            "UPDATE checkpoints SET superseded = 0, lease_owner = 'me', lease_expires_at = 9e9 "
            "WHERE checkpoint_id = 'done-1'"
        )
    told = "1 stays a head here, though others follow it there: somebody has a lease on it, or it differs."
    assert told in cli("checkpoints", "import", "x", "--database-url", "new.db").out
    copy = cli("checkpoints", "copy", "runs.db", "new.db")
    assert copy.code == 1
    assert told in copy.out
    assert cli("checkpoints", "copy", "runs.db", "new.db", "--json").json()["heads"] == 1


@pytest.mark.usefixtures("runs")
def test_a_bad_file_creates_no_database(cli: CLI, tmp_path: Path) -> None:
    """It is checked first."""
    cli("checkpoints", "export", "x", "--database-url", "runs.db")
    whole = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(whole[: len(whole) // 2])
    cut = cli("checkpoints", "import", "x", "--database-url", "new.db")
    assert cut.code == 1
    assert "it was cut off" in cut.error()
    assert "No such file" in cli("checkpoints", "import", "absent", "--database-url", "new.db").error()
    assert not (tmp_path / "new.db").exists()


@pytest.mark.usefixtures("runs")
def test_a_schema_is_meant_for_the_database_that_has_schemas(cli: CLI, postgres_url: str) -> None:
    """There and back again, with the setting that everything else is used with; two files refuse it."""
    schema = {"WORKFLOWS_DATABASE_SCHEMA": "flows"}
    assert cli("db", "upgrade", "--database-url", postgres_url, env=schema).code == 0
    assert cli("checkpoints", "copy", "runs.db", postgres_url, "--json", env=schema).json()["written"] == 7
    assert cli("checkpoints", "copy", postgres_url, "back.db", "--json", env=schema).json()["written"] == 7
    assert "no schema 'flows'" in cli("checkpoints", "copy", "runs.db", "new.db", env=schema).error()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("export", "-", "--json"), 2, "name a file"),
        (("export", "--overwrit"), 2, "no option '--overwrit'"),
        (("export", "x", "--created-after", "yesterday"), 2, "--created-after takes a date"),
        (("export", "runs.db", "--overwrite"), 1, "is never replaced"),
        (("export", "x", "--database-url", "memory://"), 1, "name a database"),
        (("copy", "runs.db", "runs.db"), 1, "are the same"),
        (("copy", "absent.db", "new.db"), 1, "db upgrade"),
        (("copy", "memory://", "new.db"), 2, "nothing can be copied"),
        (("copy", "runs.db", "new.db", "--database-url", "x.db"), 2, "no --database-url"),
        (("copy", "runs.db", f"postgresql://u:{PASSWORD}@127.0.0.1:1/x"), 1, "does not answer"),
        (("import", "x", "--on-conflict", "merge"), 2, "on-conflict"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_what_makes_no_sense_is_one_line(
    cli: CLI, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    """That says what does; nothing is created, and no password shown."""
    environment = {"WORKFLOWS_DATABASE_URL": "runs.db", "WORKFLOWS_DEADLINE_SECONDS": "0.2"}
    outcome = cli("checkpoints", *words, env=environment)
    assert outcome.code == code
    assert message in outcome.error()
    assert not {"x", "new.db"} & {one.name for one in tmp_path.iterdir()}


def test_an_export_that_is_interrupted_leaves_no_file(cli: CLI, sqlite_template: Path, tmp_path: Path) -> None:
    """Ctrl-C ends it in one line. An import that is killed is repeated, and finds what it had written.

    Both are held up where they are half done, so that neither is over before it is stopped.
    """
    asyncio.run(export_many(tmp_path / "many.jsonl", 1_500))
    database = Path(shutil.copy(sqlite_template, tmp_path / "new.db"))
    execute(database, ENDLESS_AT_THE_LAST)
    words = ("checkpoints", "import", "many.jsonl", "--database-url", "new.db")
    killed = cli.start(*words)
    while count_in(database) == 0:
        assert killed.poll() is None
        time.sleep(0.005)
    killed.kill()
    killed.communicate()
    before = count_in(database)
    assert 0 < before < 1_500

    execute(database, "DROP TRIGGER endless")
    again = cli(*words, "--json").json()
    assert (again["count"], again["present"], again["written"]) == (1_500, before, 1_500 - before)

    # So many lines tell of what is left out that the pipe is full: it waits until somebody reads.
    execute(database, "UPDATE checkpoints SET payload = x'00' WHERE CAST(checkpoint_id AS INTEGER) <= 1000")
    export = cli.start("checkpoints", "export", "new.jsonl", "--database-url", "new.db")
    while not list(tmp_path.glob(".new.jsonl.*")):
        assert export.poll() is None
        time.sleep(0.01)
    export.send_signal(signal.SIGINT)
    ended = cli.finish(export)
    assert ended.code == 130
    assert ended.err.splitlines()[-1] == "interrupted; no part of the file is left"
    assert {one.name for one in tmp_path.iterdir()} == {"many.jsonl", "new.db"}
    assert stat.S_IMODE((tmp_path / "many.jsonl").stat().st_mode) == 0o600


ENDLESS_AT_THE_LAST = """\
CREATE TRIGGER endless AFTER INSERT ON checkpoints WHEN NEW.checkpoint_id = '1' BEGIN
    SELECT max(number) FROM (
        WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers) SELECT number FROM numbers
    );
END
"""
"""An import's last batch is never committed."""


def execute(path: Path, statement: str) -> None:
    """Change a SQLite file that nobody else has open."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def count_in(path: Path) -> int:
    """How many checkpoints are in a database that is made at the moment."""
    if not path.exists():
        return 0
    with contextlib.suppress(sqlite3.OperationalError), closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM checkpoints").fetchone()[0])
    return 0


@pytest.mark.usefixtures("runs")
def test_what_is_over_in_a_moment_shows_no_progress(cli: CLI, tmp_path: Path) -> None:
    """`--json` is one value on stdout, and nothing but what was created is on stderr."""
    outcome = cli("checkpoints", "copy", "runs.db", "new.db", "--json")
    assert outcome.err == f"created the SQLite database '{tmp_path / 'new.db'}'\n"
    assert json.loads(outcome.out)["count"] == 7


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the rate, and the time that is left where it is known how many there are."""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0)
    with progress.progress("checkpoints") as told:
        told("checked", 500, None)
        told("imported", 500, 1000)
    checked, imported = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"checked 500 checkpoints, [\d,]+ a second", checked)
    assert re.fullmatch(r"imported 500 of 1,000 checkpoints, [\d,]+ a second, [\d.]+ s left", imported)


def test_progress_is_a_bar_on_a_terminal() -> None:
    """With the same in it, for each thing that is done."""
    screen = io.StringIO()
    bars = progress._Bars(Console(file=screen, force_terminal=True, width=100), "checkpoints")
    with bars.shown:
        for done in (500, 1500):
            bars("checked", done, None)
            bars("imported", done, 2000)
        bars.shown.refresh()
    assert re.search(r"imported checkpoints.*1,500 of 2,000.*[\d,]+ a second", screen.getvalue())


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_shows_at_once_what_is_under_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_terminal: bool
) -> None:
    """Before anything is done, and where nobody knows how much there is to do; elsewhere there is no line for it."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100) if is_terminal else None
    monkeypatch.setattr(Page, "unbreakable_console", lambda _: console)
    with progress.progress("bytes", "backed up"):
        pass
    with progress.busy("giving back space"):
        pass
    shown = [words in screen.getvalue() for words in ("backed up bytes", "giving back space")]
    assert shown == [is_terminal, is_terminal]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("seconds", "words"), [(0.26, "0.3 s"), (59, "59 s"), (150, "2 min"), (5400, "1.5 h")])
def test_a_time_is_as_exact_as_makes_sense(seconds: float, words: str) -> None:
    """For people, who wait for it."""
    assert progress.span(seconds) == words
