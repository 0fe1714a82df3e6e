"""An examination tells what is wrong with a database, on either, and changes nothing."""

import asyncio

import pytest
from sqlalchemy import Connection

from tests.conftest import OpenStore
from tests.migrations import raw
from tests.persistence.examined import examined, problems
from workflows_mcp import CheckpointStatus, SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.persistence import health
from workflows_mcp.persistence.checks import Report
from workflows_mcp.persistence.health import Verdict, examine
from workflows_mcp.persistence.schema import SchemaManager
from workflows_mcp.testing import make_state


async def test_nothing_is_a_problem_in_a_database_that_is_in_order(
    store: SQLAlchemyCheckpointStore, database_url: str
) -> None:
    """While a store has it open, too; and what is in it is counted."""
    for number in range(3):
        await store.save_checkpoint(make_state(f"{number}"))
    await store.save_checkpoint(make_state("asks", paused_block_id="a"))
    found = await examined(database_url)
    assert problems(found) == set()
    assert found["checkpoints"].found == "4, of which 1 wait for an answer"
    assert found["revision"].found == "0003, the newest"
    assert found["payloads"].found == "the newest 4 can be read; --deep reads them all"
    assert "ms" in found["answers"].found
    for name in ("table", "runs", "size", "settings"):
        assert found[name].verdict is Verdict.OK, name


async def test_a_database_without_our_schema_is_told_what_makes_it(empty_url: str) -> None:
    """One of somebody else's, with tables of theirs."""
    await raw.execute(empty_url, "CREATE TABLE theirs (name TEXT)")
    found = await examined(empty_url)
    assert "revision" in problems(found)
    assert "no checkpoints table" in found["revision"].found
    assert found["revision"].advice.startswith("run: workflows-mcp db upgrade --database-url ")
    assert "payloads" not in found
    assert await raw.table_names(empty_url) == ["theirs"]


async def test_a_guides_database_is_not_taken_over_by_looking_at_it(empty_url: str) -> None:
    """The command that does so is named."""
    await raw.make_guide_database(empty_url)
    before = await raw.contents(empty_url)
    found = await examined(empty_url)
    assert "not under our revisions yet" in found["revision"].found
    assert await raw.contents(empty_url) == before


async def test_an_older_and_a_newer_schema_are_told_apart(database_url: str) -> None:
    """One wants the database upgraded, the other the program."""
    await SchemaManager(database_url).downgrade("0001")
    found = await examined(database_url)
    assert problems(found) == {"revision"}
    assert "revision 0001, and this version needs 0003" in found["revision"].found
    assert "db upgrade" in found["revision"].advice
    assert await SchemaManager(database_url).current() == "0001"
    await raw.execute(database_url, "UPDATE workflows_alembic_version SET version_num = '9999'")
    found = await examined(database_url)
    assert problems(found) == {"revision"}
    assert found["revision"].advice == "upgrade workflows-mcp"


async def test_a_table_that_was_changed_by_hand_is_noticed(database_url: str) -> None:
    """Though the revision is the newest."""
    await raw.execute(database_url, "DROP INDEX ix_checkpoints_run_id")
    found = await examined(database_url)
    assert problems(found) == {"table"}
    assert "an index is missing" in found["table"].found


async def test_damaged_checkpoints_are_named(store: SQLAlchemyCheckpointStore, database_url: str) -> None:
    """Those among the newest at once; all of them when all are read, over several pages."""
    states = (make_state(f"{number:04}", created_at=float(number)) for number in range(1_102))
    await asyncio.gather(*map(store.save_checkpoint, states))
    damage = "x'00'" if not raw.is_postgres(database_url) else "'\\x00'::bytea"
    await raw.execute(
        database_url,
        f"UPDATE checkpoints SET payload = {damage} WHERE checkpoint_id IN ('1100', '0007')",
        "UPDATE checkpoints SET encoding = 'unheard-of' WHERE checkpoint_id = '0003'",
    )
    found = await examined(database_url)
    assert problems(found) == {"payloads"}
    assert found["payloads"].found == "of the newest 100, 1 cannot be read: '1100'"
    deep = await examined(database_url, deep=True)
    assert deep["payloads"].found == "of all 1,102, 3 cannot be read: '1100', '0007', '0003'"


async def test_runs_without_a_process_are_counted(open_store: OpenStore, database_url: str) -> None:
    """Their leases have ended; those whose leases go on are left out."""
    store = open_store()
    for name, seconds in (("left", 0.001), ("held", 60)):
        state = make_state(name, run_id=name, status=CheckpointStatus.RUNNING)
        await store.save_checkpoint(state, owner="somebody", lease_seconds=seconds)
    found = await examined(database_url)
    assert problems(found) == set()
    assert found["runs"].verdict is Verdict.NOTICE
    assert found["runs"].found.startswith("1 run is without a process")
    assert "recover" in found["runs"].advice


async def test_a_question_that_takes_too_long_is_no_problem(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Say the number of all checkpoints, which a large table takes long to tell; the others are asked all the same."""
    endless = "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT count(*) FROM n"

    def count(connection: Connection, _report: Report) -> None:
        connection.exec_driver_sql("SELECT pg_sleep(60)" if raw.is_postgres(database_url) else endless)

    monkeypatch.setattr(health, "_count", count)
    found = await examined(database_url, deadline_seconds=1.5)
    assert problems(found) == set()
    assert found["checkpoints"].verdict is Verdict.NOTICE
    assert found["checkpoints"].found == "not known: it takes longer than 1.5 s"
    assert found["runs"].verdict is Verdict.OK
    assert found["payloads"].verdict is Verdict.OK


async def test_settings_that_keep_less_than_the_defaults_are_told(database_url: str) -> None:
    """All of them in one line."""
    found = await examined(database_url, keep_paused=False, lease_seconds=1, auto_upgrade=True)
    assert problems(found) == set()
    assert found["settings"].verdict is Verdict.NOTICE
    for name in ("KEEP_PAUSED", "LEASE_SECONDS", "AUTO_UPGRADE"):
        assert f"WORKFLOWS_{name}" in found["settings"].found


@pytest.mark.parametrize("url", ["memory://", "", "mysql://user:hunter2@host/db", "postgresql://u:hun/ter2@host/db"])
async def test_a_url_that_names_no_database_is_a_finding(url: str) -> None:
    """No error is raised, and no password is shown."""
    [check] = await examine(url)
    assert check.check == "database"
    assert check.verdict is Verdict.PROBLEM
    assert "hunter2" not in check.found + check.advice
    assert "ter2" not in check.found + check.advice


async def test_an_examination_beside_writers_leaves_them_alone(open_store: OpenStore, database_url: str) -> None:
    """Each save succeeds while the database is looked at again and again."""
    store = open_store()
    for turn in range(3):
        found = await examined(database_url)
        assert problems(found) == set()
        for number in range(5):
            await store.save_checkpoint(make_state(f"{turn}-{number}"))
    await upgrade_schema(database_url)
    assert (await store.get_stats()).total_checkpoints == 15
