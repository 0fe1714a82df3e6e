"""`checkpoints list` and `checkpoints show`."""

import asyncio
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tests.cli.conftest import CLI
from workflows_mcp import SQLAlchemyCheckpointStore, WorkflowResult
from workflows_mcp.testing import make_state


def test_a_listing_is_aligned_lines_and_its_cursor_gives_the_next_page(cli: CLI, waiting: WorkflowResult) -> None:
    """The newest first; the run has saved its begin, its first wave and its question."""
    first = cli("checkpoints", "list", "--limit", "2", "--database-url", "runs.db")
    header, newest, second, more = first.out.splitlines()
    assert header.split() == ["created", "status", "waves", "stored", "full", "workflow", "run", "checkpoint"]
    assert newest[header.index("status") :].startswith("paused ")
    assert newest.endswith(str(waiting.checkpoint_id))
    assert second[header.index("status") :].startswith("running ")
    assert first.err == ""

    cursor = more.rpartition("--before ")[2]
    words = ("checkpoints", "list", "--limit", "2", "--before", cursor, "--json", "--database-url", "runs.db")
    rest = cli(*words).json()
    assert [one["current_wave_index"] for one in rest["checkpoints"]] == [0]
    assert rest["next"] is None


def test_a_listing_keeps_to_its_filters(cli: CLI, waiting: WorkflowResult) -> None:
    """All of them at once, and one that matches nothing."""
    base = ("checkpoints", "list", "--json", "--database-url", "runs.db")
    all_of_them = ("--workflow", "asking", "--run", waiting.run_id, "--status", "paused", "--paused")
    found, nothing = [
        cli(*base, *words).json()["checkpoints"] for words in (all_of_them, ("--no-paused", "--status", "paused"))
    ]
    assert [one["checkpoint_id"] for one in found] == [waiting.checkpoint_id]
    assert found[0]["pause_prompt"] == "Go on, Ann?"
    assert "payload" not in found[0]
    assert nothing == []
    recent = (*base, "--since", "2h")
    assert len(cli(*recent, "--contains", str(waiting.run_id)[4:]).json()["checkpoints"]) == 3
    assert cli(*recent, "--contains", str(waiting.checkpoint_id)).json()["checkpoints"] == found
    assert len(cli(*recent, "--until", str(found[0]["created_at"])).json()["checkpoints"]) == 2


def test_show_prints_metadata_and_the_state(cli: CLI, waiting: WorkflowResult) -> None:
    """As text for people, and as the same data for programs."""
    words = ("checkpoints", "show", str(waiting.checkpoint_id), "--database-url", "runs.db")
    text, data = cli(*words), cli(*words, "--json")
    assert f"checkpoint_id         {waiting.checkpoint_id}\n" in text.out
    assert '"who": "Ann"' in text.out
    assert data.json()["metadata"]["status"] == "paused"
    assert data.json()["state"]["runtime_inputs"] == {"who": "Ann"}
    assert re.search(r"^stored +whole$", text.out, re.MULTILINE)
    assert data.json()["bases"] == []


async def _save_a_run(folder: Path) -> None:
    """Four states, of which three are deltas."""
    async with SQLAlchemyCheckpointStore(str(folder / "runs.db")) as store:
        for number in range(4):
            context = {"text": [f"line {line}" for line in range(2000 + number)]}
            state = make_state(f"s{number}", run_id="r", created_at=float(number), context=context)
            await store.save_checkpoint(state)


def test_how_a_state_is_stored_is_shown(cli: CLI, tmp_path: Path) -> None:
    """In a listing by both sizes; one that is a delta, with what it takes to load it; all of them by statistics."""
    base = ("--database-url", "runs.db")
    cli("db", "upgrade", *base)
    asyncio.run(_save_a_run(tmp_path))
    rows = cli("checkpoints", "list", "--run", "r", *base).out.splitlines()
    assert re.search(r" \d+ B +2\d\.\d KiB .* s3$", rows[1])
    assert re.search(r" \d\.\d KiB +2\d\.\d KiB .* s0$", rows[4])
    shown = cli("checkpoints", "show", "s2", *base).out
    assert re.search(r"^stored +as a delta of s1; loading it reads 3 checkpoints, \d\.\d KiB$", shown, re.MULTILINE)
    assert re.search(r"^needed +to load 1 other$", shown, re.MULTILINE)
    data = cli("checkpoints", "show", "s2", "--meta", "--json", *base).json()
    assert (data["bases"], data["needed_by"], "state" in data) == (["s1", "s0"], 1, False)
    counted = cli("stats", *base).out
    assert re.search(r"^stored .* KiB; as plain JSON .* KiB, .* × as much: .* KiB saved$", counted, re.MULTILINE)
    assert re.search(r"^deltas +3: ", counted, re.MULTILINE)
    without = cli("stats", *base, env={"WORKFLOWS_DELTA_CACHE_MB": "0"}).out
    assert re.search(r"^deltas +3: .*; WORKFLOWS_DELTA_CACHE_MB is 0, and", without, re.MULTILINE)
    assert cli("stats", "--json", *base).json()["deltas"] == 3
    sizes = re.search(
        r"^age .* stored +full .*\n.* \d+ B +2\d\.\d KiB +s3$", cli("runs", "show", "r", *base).out, re.MULTILINE
    )
    assert sizes is not None


def test_one_that_is_damaged_is_told_once_for_all_that_need_it(cli: CLI, tmp_path: Path) -> None:
    """By an export; what is known of it is shown; and it goes together with those, in whatever order they are typed."""
    base = ("--database-url", "runs.db")
    cli("db", "upgrade", *base)
    asyncio.run(_save_a_run(tmp_path))
    with closing(sqlite3.connect(tmp_path / "runs.db")) as file, file:
        file.execute("UPDATE checkpoints SET payload = x'00' WHERE checkpoint_id = 's1'")
    export = cli("checkpoints", "export", "x", *base)
    assert export.err.count("left out") == 2
    assert "left out: 2 checkpoints that need 's1', which is damaged: its checksum does not match; put " in export.err
    assert re.search(r"^needed +to load 2 others$", cli("checkpoints", "show", "s1", "--meta", *base).out, re.MULTILINE)
    refused = cli("checkpoints", "delete", "s1", "s2", "--force", *base)
    assert "'s2' was not deleted: checkpoint 's3' needs it" in refused.error()
    deleted = cli("checkpoints", "delete", "s1", "s3", "s2", "--force", "--json", *base).json()["checkpoints"]
    assert [one["checkpoint_id"] for one in deleted] == ["s3", "s2", "s1"]
    assert cli("checkpoints", "delete", *base).code == 2


def test_going_down_asks_before_deltas_are_written_out(cli: CLI, tmp_path: Path) -> None:
    """It says how many, and how large that is."""
    base = ("--database-url", "runs.db")
    cli("db", "upgrade", *base)
    asyncio.run(_save_a_run(tmp_path))
    refused = cli("db", "downgrade", "0002", *base)
    assert refused.code == 2
    assert re.search(
        r"3 checkpoints in .* are stored as deltas, .* \d\d\.\d KiB as plain JSON, .*--yes", refused.error()
    )
    assert "is at revision 0002" in cli("db", "downgrade", "0002", "--yes", *base).out
    assert cli("db", "downgrade", "0002", *base).code == 0


def test_what_is_stored_cannot_move_the_cursor_of_a_terminal(cli: CLI, waiting: WorkflowResult, tmp_path: Path) -> None:
    """Names come from workflows, and a listing is one line a checkpoint whatever is in them."""

    async def save_a_hostile_name() -> None:
        async with SQLAlchemyCheckpointStore(str(tmp_path / "runs.db")) as store:
            state = await store.load_checkpoint(str(waiting.checkpoint_id))
            assert state is not None
            await store.save_checkpoint(
                replace(state, checkpoint_id="x", created_at=state.created_at + 1, workflow_name="a\x1b[2J\nb")
            )

    asyncio.run(save_a_hostile_name())
    listing = cli("checkpoints", "list", "--limit", "1", "--database-url", "runs.db")
    assert "a [2J b" in listing.out
    assert "\x1b" not in listing.out


def test_a_reader_that_stops_reading_is_no_error(cli: CLI, waiting: WorkflowResult) -> None:
    """As in `workflows-mcp checkpoints show … | head -1`."""
    process = cli.start("checkpoints", "show", str(waiting.checkpoint_id), "--database-url", "runs.db")
    assert process.stdout is not None
    process.stdout.close()
    with process:
        assert process.stderr is not None
        err = process.stderr.read()
    assert err == ""
    assert process.returncode == 128 + 13  # what a shell says of a process that SIGPIPE ended


def test_a_listing_creates_no_database_but_the_default_one(cli: CLI, tmp_path: Path) -> None:
    """A path that was typed may be a typo."""
    missing = cli("checkpoints", "list", "--database-url", "typo.db")
    default = cli("checkpoints", "list")
    assert missing.code == 1
    assert "create it with: workflows-mcp db upgrade" in missing.error()
    assert not (tmp_path / "typo.db").exists()
    assert default.code == 0
    assert default.out == "There are no checkpoints here.\n"


def test_an_unusable_home_is_named_with_the_way_out(cli: CLI, tmp_path: Path) -> None:
    """The default path cannot be used then, another one can."""
    (tmp_path / "file").touch()
    listing = cli("checkpoints", "list", env={"HOME": str(tmp_path / "file")})
    assert listing.code == 1
    assert "cannot be created" in listing.error()
    assert "set WORKFLOWS_DATABASE_URL" in listing.error()


def test_help_and_version_need_neither_a_database_nor_heavy_modules(cli: CLI) -> None:
    """They answer at once, which is felt at every use of the command."""
    version = cli("--version")
    assert version.out.strip().replace(".", "").isdigit()
    with cli.start("--help", env={"PYTHONPROFILEIMPORTTIME": "1"}) as process:
        out, imported = process.communicate()
    assert "workflows-mcp demo" in out
    loaded = {line.rpartition("|")[2].strip() for line in imported.splitlines()}
    assert "cyclopts" in loaded
    assert not loaded & {"sqlalchemy", "alembic", "pydantic", "asyncpg", "yaml", "jinja2"}
