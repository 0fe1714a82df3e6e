"""Revision 0003: nothing is lost on the way up, deltas are written out on the way down, and bases stay."""

import asyncio
import hashlib
import json
import signal
import sqlite3
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from backports import zstd
from sqlalchemy import text

from tests.migrations import raw
from tests.migrations.processes import migrate_and_fail
from tests.migrations.stored import restore, states_in
from tests.migrations.test_schema import dump
from workflows_mcp import (
    CheckpointDecodeError,
    CheckpointState,
    CheckpointStoreError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    upgrade_schema,
)
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.persistence.dialects import dialect_for
from workflows_mcp.persistence.revisions import HEAD
from workflows_mcp.persistence.schema import SchemaManager
from workflows_mcp.settings import Settings
from workflows_mcp.testing import make_state

LINKS = {"c": None, "a": "c", "e": "a", "b": "c", "d": "b"}
"""Checkpoints and their bases: chains that share their beginnings, in no order of the ids."""

OF_0002 = (
    "checkpoint_id, run_id, workflow_name, created_at, status, is_paused, pause_prompt, parent_checkpoint_id, "
    "superseded, current_wave_index, pinned, schema_version, lease_owner, lease_expires_at, full_bytes, "
    "stored_bytes, encoding, payload"
)
"""The columns of revision 0002."""

NULLABLE = {"run_id", "pause_prompt", "parent_checkpoint_id", "lease_owner", "lease_expires_at"}
NUMBERED = {"checkpoint_id": "'c' || v", "payload": "randomblob(6000)"}
"""Columns of rows that are numbered by `v`; what is in none of both is 1."""

TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom. "


@dataclass(frozen=True)
class Chains:
    """States of a run that are saved as deltas, by hand: this is what a store of any later version may have left.

    Attributes:
        url: The database.
        states: Each of them, by its id.
    """

    url: str
    states: Mapping[str, CheckpointState] = field(
        default_factory=lambda: {
            name: make_state(name, run_id="run", created_at=float(n), context={"n": n, "text": TEXT * (60 + n)})
            for n, name in enumerate(LINKS)
        }
    )

    async def save(self) -> None:
        """Save them, and make deltas of all that have a base."""
        async with SQLAlchemyCheckpointStore(self.url, settings=Settings(delta_cache_mb=0)) as store:
            for state in self.states.values():
                await store.save_checkpoint(state)
        for name, base in LINKS.items():
            await self.set(name, state_digest=self.digest(name))
            if base is not None:
                await self.make_delta(name, base)

    def plain(self, name: str) -> bytes:
        """The plain JSON of one."""
        return encode_state(self.states[name])

    def digest(self, name: str) -> str:
        """What tells its content apart."""
        return hashlib.sha256(self.plain(name)).hexdigest()[:16]

    async def make_delta(self, name: str, base: str) -> None:
        """Make a row a delta against another one."""
        prefix = zstd.ZstdDict(self.plain(base), is_raw=True).as_prefix
        frame = zstd.compress(self.plain(name), options={zstd.CompressionParameter.window_log: 20}, zstd_dict=prefix)
        payload = zlib.crc32(frame).to_bytes(4, "big") + frame
        await self.set(
            name,
            encoding="zstd-delta",
            payload=payload,
            stored_bytes=len(payload),
            base_checkpoint_id=base,
            base_digest=self.digest(base),
        )

    async def set(self, name: str, **columns: object) -> None:
        """Set columns of a row, whatever anything else thinks of it."""
        assignments = ", ".join(f"{column} = {self._literal(value)}" for column, value in columns.items())
        await raw.execute(self.url, f"UPDATE checkpoints SET {assignments} WHERE checkpoint_id = '{name}'")

    def _literal(self, value: object) -> str:
        if isinstance(value, bytes):
            return f"'\\x{value.hex()}'" if raw.is_postgres(self.url) else f"x'{value.hex()}'"
        return "NULL" if value is None else str(value) if isinstance(value, int) else f"'{value}'"


@pytest.fixture
async def chains(database_url: str) -> Chains:
    """A database at head that holds chains of deltas."""
    made = Chains(database_url)
    await made.save()
    return made


async def rows_of(url: str) -> Sequence[tuple[Any, ...]]:
    """The rows with the columns of revision 0002, in the order of their ids."""
    return await raw.fetch(url, f"SELECT {OF_0002} FROM checkpoints ORDER BY checkpoint_id")


async def fields_of(url: str, name: str) -> dict[str, object]:
    """What a row says that decides about its chain."""
    columns = (
        "checkpoint_id",
        "full_bytes",
        "encoding",
        "payload",
        "state_digest",
        "base_checkpoint_id",
        "base_digest",
    )
    [row] = await raw.fetch(url, f"SELECT {', '.join(columns)} FROM checkpoints WHERE checkpoint_id = '{name}'")
    return dict(zip(columns, row, strict=True))


# --- up and down


async def test_every_row_goes_up_and_comes_down_as_it_was(empty_url: str, database: str) -> None:
    """Of the guide's, of runs in every condition, leased and pinned: byte for byte, in the schema of 0002."""
    await restore("0002", database, empty_url)
    before, schema_before = await rows_of(empty_url), dump(empty_url)
    assert len(before) > 10
    manager = SchemaManager(empty_url)
    await manager.upgrade()
    assert await rows_of(empty_url) == before
    none = await raw.fetch(empty_url, "SELECT DISTINCT state_digest, base_checkpoint_id, base_digest FROM checkpoints")
    assert none == [(None, None, None)]
    await manager.downgrade("0002")
    assert await rows_of(empty_url) == before
    assert dump(empty_url) == schema_before


async def test_what_others_have_made_beside_the_table_stays(empty_url: str) -> None:
    """Indexes, triggers, views, and tables that refer to it."""
    manager = SchemaManager(empty_url)
    await manager.upgrade("0002")
    function = (
        ["CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"]
        if raw.is_postgres(empty_url)
        else []
    )
    does = "EXECUTE FUNCTION f()" if function else "BEGIN SELECT 1; END"
    await raw.execute(
        empty_url,
        *function,
        "CREATE INDEX theirs ON checkpoints (workflow_name, status)",
        f"CREATE TRIGGER odd BEFORE DELETE ON checkpoints FOR EACH ROW {does}",
        "CREATE VIEW names AS SELECT checkpoint_id FROM checkpoints",
        "CREATE TABLE notes (about TEXT REFERENCES checkpoints (checkpoint_id))",
    )
    before = dump(empty_url)
    await manager.upgrade()
    for name in ("theirs", "odd", "names", "notes"):
        assert name in dump(empty_url)
    await manager.downgrade("0002")
    assert dump(empty_url) == before


async def test_chains_are_written_out_on_the_way_down_and_go_on_above(chains: Chains) -> None:
    """Each row holds its own state then, as revision 0002 knows it; the sizes are those of what is stored."""
    manager = SchemaManager(chains.url)
    await manager.downgrade("0002")
    rows = {row[0]: row for row in await rows_of(chains.url)}
    assert rows.keys() == LINKS.keys()
    for name, (*_, full_bytes, stored_bytes, encoding, payload) in rows.items():
        assert encoding == "zstd"
        assert zstd.decompress(payload[4:]) == chains.plain(name)
        assert (full_bytes, stored_bytes) == (len(chains.plain(name)), len(payload))
    await manager.upgrade()
    await manager.check()
    expected = {name: json.dumps(vars(state)) for name, state in sorted(chains.states.items())}
    assert await states_in(chains.url) == expected


async def test_an_upgrade_that_is_killed_leaves_revision_0002_whole(empty_url: str, database: str) -> None:
    """When all but the indexes is done; another one then succeeds."""
    await restore("0002", database, empty_url)
    before, schema_before = await raw.contents(empty_url), dump(empty_url)
    step = "create_foreign_key" if raw.is_postgres(empty_url) else "drop_table"
    assert await migrate_and_fail(empty_url, "head", step, is_killed=True) == -signal.SIGKILL
    assert await raw.contents(empty_url) == before
    assert dump(empty_url) == schema_before
    await upgrade_schema(empty_url)
    assert await SchemaManager(empty_url).current() == HEAD


async def test_a_downgrade_that_is_killed_leaves_the_chains_whole(chains: Chains) -> None:
    """When all of them are written out."""
    before, schema_before = await raw.contents(chains.url), dump(chains.url)
    assert await migrate_and_fail(chains.url, "0002", "drop_index", is_killed=True) == -signal.SIGKILL
    assert await raw.contents(chains.url) == before
    assert dump(chains.url) == schema_before


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_file_that_is_made_anew_takes_its_size_once_more_and_no_longer(empty_url: str) -> None:
    """In its -wal, up and down: what was moved makes room for what comes next."""
    manager = SchemaManager(empty_url)
    await manager.upgrade("0002")
    filler = ", ".join(["NULL" if name in NULLABLE else NUMBERED.get(name, "1") for name in OF_0002.split(", ")])
    await raw.execute(
        empty_url,
        "WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 900) "
        f"INSERT INTO checkpoints ({OF_0002}) SELECT {filler} FROM n",
        "CREATE INDEX theirs ON checkpoints (workflow_name, status)",
        "CREATE TRIGGER odd BEFORE DELETE ON checkpoints BEGIN SELECT RAISE(ABORT, 'not yours'); END",
    )
    before = await rows_of(empty_url)
    size = Path(empty_url).stat().st_size
    for go in (manager.upgrade, partial(manager.downgrade, "0002")):
        with closing(sqlite3.connect(empty_url)) as beside:  # so that the last one to leave is not the migration
            beside.execute("SELECT count(*) FROM checkpoints").fetchone()
            await go()
            wal = Path(f"{empty_url}-wal").stat().st_size
        assert Path(empty_url).stat().st_size < 1.3 * size
        assert wal < 1.5 * size
    assert await rows_of(empty_url) == before


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_column_of_somebody_elses_stops_a_file_from_being_made_anew(empty_url: str) -> None:
    """By its name, up and down, whatever needs it; PostgreSQL's table is altered in place, and keeps it."""
    manager = SchemaManager(empty_url)
    for revision, move in (("0002", manager.upgrade), ("head", partial(manager.downgrade, "0002"))):
        await manager.upgrade(revision)
        await raw.execute(
            empty_url,
            "ALTER TABLE checkpoints ADD COLUMN mine TEXT",
            "ALTER TABLE checkpoints ADD COLUMN twice TEXT AS (mine || mine)",
            "CREATE INDEX theirs ON checkpoints (mine)",
        )
        before = dump(empty_url)
        with pytest.raises(StoreConfigurationError, match=r"not ours: 'mine', 'twice'\..*Nothing was changed; copy"):
            await move()
        assert dump(empty_url) == before
        await raw.execute(
            empty_url,
            "DROP INDEX theirs",
            "ALTER TABLE checkpoints DROP COLUMN twice",
            "ALTER TABLE checkpoints DROP COLUMN mine",
        )
        await move()


@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_delta_that_is_committed_while_the_way_down_begins_is_written_out_with_the_others(
    chains: Chains,
) -> None:
    """The table is locked before anything is looked for: nobody saves beside it."""
    connection = await asyncpg.connect(chains.url)
    try:
        async with connection.transaction():
            await connection.execute(
                'INSERT INTO checkpoints SELECT (jsonb_populate_record(c, \'{"checkpoint_id": "late"}\')).* '
                "FROM checkpoints c WHERE checkpoint_id = 'd'"
            )
            going_down = asyncio.create_task(SchemaManager(chains.url).downgrade("0002"))
            waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'checkpoints'::regclass AND NOT granted)"
            async with asyncio.timeout(20):
                while not await connection.fetchval(waits):  # noqa: ASYNC110 - a lock of the server
                    await asyncio.sleep(0.01)
        await going_down
    finally:
        await connection.close()
    rows = {row[0]: (row[-2], zstd.decompress(row[-1][4:])) for row in await rows_of(chains.url)}
    assert rows["late"] == rows["d"] == ("zstd", chains.plain("d"))


# --- what stops the way down


async def test_a_sealed_row_of_a_kind_that_older_versions_do_not_know_stops_the_way_down(chains: Chains) -> None:
    """Before anything is written out; a sealed row as they have made it does not."""
    await chains.set("d", encoding="aes-256-gcm:k:0123456789abcdef:zstd-delta")
    before = await raw.contents(chains.url)
    with pytest.raises(CheckpointStoreError, match=r"'d' is sealed .*=off workflows-mcp checkpoints rekey --decrypt"):
        await SchemaManager(chains.url).downgrade("0002")
    assert await raw.contents(chains.url) == before
    await chains.make_delta("d", "b")
    await chains.set("d", base_checkpoint_id=None, base_digest=None, state_digest=None)
    await chains.set("d", encoding="aes-256-gcm:k:0123456789abcdef:zstd")
    await SchemaManager(chains.url).downgrade("0002")


DAMAGED: Mapping[str, tuple[str, dict[str, object], str]] = {
    "checksum": ("d", {"payload": b"\0\0\0\0frame"}, r"'d' is damaged \(its checksum"),
    "size": ("b", {"full_bytes": 7}, r"'b' is damaged \(it does not unpack"),
    "no frame": ("d", {"payload": zlib.crc32(b"odd").to_bytes(4, "big") + b"odd"}, r"'d' .*\(it does not unpack"),
    "no base": ("d", {"base_checkpoint_id": None}, r"'d' is damaged \(it does not say what"),
    "another encoding": ("c", {"encoding": "guide-json"}, r"'c' is damaged \(it is a base"),
    "no delta": ("d", {"encoding": "json"}, r"'d' is damaged \(it has a base"),
}
"""What a row may say so that no state can be made of it, and what is then told."""

UNKEPT: Mapping[str, tuple[str, dict[str, object], str]] = {
    "changed": ("c", {"state_digest": "other"}, "'a' .*its base 'c' is not there as it was"),
    "deleted": ("c", {"checkpoint_id": "other"}, "'a' .*its base 'c' is not there as it was"),
    "circle": (
        "c",
        {"encoding": "zstd-delta", "base_checkpoint_id": "c", "base_digest": Chains("").digest("c")},
        r"\(its bases lead back",
    ),
}
"""The same where foreign keys are off, as other programs have them in a SQLite file."""


async def test_a_damaged_link_stops_the_way_down_by_its_name(chains: Chains) -> None:
    """And the chains are as they were."""
    manager = SchemaManager(chains.url)
    cases = [DAMAGED["size"]] if raw.is_postgres(chains.url) else [*DAMAGED.values(), *UNKEPT.values()]
    for name, columns, told in cases:
        whole = await fields_of(chains.url, name)
        await chains.set(name, **columns)
        before = await raw.contents(chains.url)
        with pytest.raises(CheckpointDecodeError, match=f"{told}.*Nothing was changed; .* or delete"):
            await manager.downgrade("0002")
        assert await raw.contents(chains.url) == before
        await chains.set(str(columns.get("checkpoint_id", name)), **whole)
    await manager.downgrade("0002")


# --- what the database keeps


async def refused(url: str, *statements: str) -> bool:
    """Whether the database refuses a statement for a foreign key, on a connection of ours; it is taken back."""
    engine = dialect_for(url).create_engine(Settings())
    try:
        async with engine.connect() as connection:
            for statement in statements:
                await connection.execute(text(statement))
    except Exception as error:
        cause = getattr(getattr(error, "orig", error), "__cause__", None) or getattr(error, "orig", error)
        name = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
        if name not in {"SQLITE_CONSTRAINT_FOREIGNKEY", "23503"}:
            raise
        return True
    finally:
        await engine.dispose()
    return False


async def test_a_base_stays_as_it_is_while_a_delta_needs_it(chains: Chains) -> None:
    """It is neither deleted nor given another content; all that does not touch its content goes on."""
    before = await raw.contents(chains.url)
    assert await refused(chains.url, "DELETE FROM checkpoints WHERE checkpoint_id = 'c'")
    assert await refused(chains.url, "UPDATE checkpoints SET state_digest = 'x' WHERE checkpoint_id = 'c'")
    assert await refused(chains.url, "UPDATE checkpoints SET state_digest = NULL WHERE checkpoint_id = 'c'")
    assert await refused(chains.url, "UPDATE checkpoints SET base_digest = 'x' WHERE checkpoint_id = 'd'")
    assert await refused(chains.url, "UPDATE checkpoints SET base_checkpoint_id = 'x' WHERE checkpoint_id = 'd'")
    assert await raw.contents(chains.url) == before
    assert not await refused(chains.url, "UPDATE checkpoints SET superseded = true, state_digest = state_digest")
    assert not await refused(chains.url, "DELETE FROM checkpoints WHERE checkpoint_id = 'd'")
    assert not await refused(chains.url, "DELETE FROM checkpoints WHERE checkpoint_id = 'b'")


async def test_one_statement_may_take_a_base_with_all_that_needs_it(chains: Chains) -> None:
    """In any order: what is left is looked at when it is done."""
    assert await refused(chains.url, "DELETE FROM checkpoints WHERE checkpoint_id IN ('a', 'c', 'e')")
    assert not await refused(chains.url, "DELETE FROM checkpoints WHERE checkpoint_id IN ('b', 'd')")
    assert not await refused(chains.url, "DELETE FROM checkpoints")


async def test_what_is_a_delta_of_a_base_outlives_its_being_saved_with_another_content(chains: Chains) -> None:
    """The foreign key refuses it at first, on the connection that is held for saving, too."""
    other = replace(chains.states["c"], context={"n": "other"})
    async with SQLAlchemyCheckpointStore(chains.url) as store:
        await store.save_checkpoint(other)
        for checkpoint_id, state in {**chains.states, "c": other}.items():
            assert await store.load_checkpoint(checkpoint_id) == state


async def test_a_program_of_revision_0002_that_goes_on_after_the_upgrade_saves_nothing(chains: Chains) -> None:
    """It does not name the columns that are new; what it would give a base another content by fails as a whole."""
    made = OF_0002.replace("checkpoint_id", "'{id}'", 1)
    saves = (
        f"INSERT INTO checkpoints ({OF_0002}) SELECT {made} FROM checkpoints WHERE checkpoint_id = 'b' "
        "ON CONFLICT (checkpoint_id) DO UPDATE SET payload = excluded.payload"
    )
    before = await raw.contents(chains.url)
    for checkpoint_id in ("c", "new"):
        with pytest.raises((sqlite3.IntegrityError, asyncpg.CheckViolationError), match="0002_must_be_stopped"):
            await raw.execute(chains.url, saves.format(id=checkpoint_id))
    assert await raw.contents(chains.url) == before


@pytest.mark.parametrize("database", ["sqlite"])
async def test_connections_of_ours_have_foreign_keys_on(database_url: str) -> None:
    """In SQLite each one has to ask for it: the pool's, and those without a deadline. Those held save, as above."""
    dialect = dialect_for(database_url)
    found = []
    for patient in (False, True):
        engine = dialect.create_engine(Settings(), patient=patient)
        async with engine.connect() as connection:
            found.append((await connection.exec_driver_sql("PRAGMA foreign_keys")).scalar_one())
        await engine.dispose()
    assert found == [1, 1]


# --- what it costs


async def scans(connection: asyncpg.Connection, statement: str) -> Counter[str]:
    """How often a statement, with all that it sets off, goes through the table and each of its indexes."""
    count = (
        "SELECT relname::text, pg_stat_get_xact_numscans(oid) FROM pg_class WHERE oid = 'checkpoints'::regclass "
        "OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'checkpoints'::regclass)"
    )
    async with connection.transaction():
        before = Counter(dict(map(tuple, await connection.fetch(count))))
        await connection.execute(statement)
        return Counter(dict(map(tuple, await connection.fetch(count)))) - before


async def test_the_databases_find_deltas_and_bases_by_their_indexes(chains: Chains) -> None:
    """Whatever a table holds, a deletion looks at one place for what needs it."""
    index, key = "ix_checkpoints_base_checkpoint_id", "uq_checkpoints_checkpoint_id_state_digest"
    if not raw.is_postgres(chains.url):
        with closing(sqlite3.connect(chains.url)) as file:
            file.execute("PRAGMA foreign_keys = ON")
            for statement in (
                "DELETE FROM checkpoints WHERE checkpoint_id = 'd'",
                "UPDATE checkpoints SET state_digest = 'x' WHERE checkpoint_id = 'd'",
            ):
                *_, plan = file.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
                assert plan[-1] == f"SEARCH checkpoints USING INDEX {index} (base_checkpoint_id=?)"
        return
    connection = await asyncpg.connect(chains.url)
    try:
        columns = ", ".join(
            f"'c' || n AS {name}" if name == "checkpoint_id" else name
            for (name,) in await connection.fetch(
                "SELECT attname::text FROM pg_attribute WHERE attrelid = 'checkpoints'::regclass AND attnum > 0 "
                "ORDER BY attnum"
            )
        )
        await connection.execute(
            f"INSERT INTO checkpoints SELECT {columns} FROM checkpoints, generate_series(1, 2000) n "
            "WHERE checkpoint_id = 'd'"
        )
        await connection.execute("ANALYZE checkpoints")
        delete = "DELETE FROM checkpoints WHERE checkpoint_id = 'c7'"
        found = await scans(connection, delete)
        assert (found[index], found["checkpoints"]) == (1, 0)
        base = "(base_checkpoint_id, base_digest) = (SELECT checkpoint_id, state_digest FROM checkpoints c"
        another = f"UPDATE checkpoints SET {base} WHERE c.checkpoint_id = 'a') WHERE checkpoint_id = 'c8'"
        found = await scans(connection, another)
        assert (found[key] > 0, found["checkpoints"]) == (True, 0)
    finally:
        await connection.close()


async def test_an_id_that_is_there_is_told_from_a_broken_rule(chains: Chains) -> None:
    """Whichever of the two keys that have it speaks first."""
    statement = (
        "INSERT INTO checkpoints (checkpoint_id, workflow_name, created_at, status, is_paused, superseded, "
        "current_wave_index, pinned, schema_version, full_bytes, stored_bytes, state_digest, base_digest, encoding, "
        "payload) SELECT checkpoint_id, workflow_name, created_at, status, is_paused, superseded, current_wave_index, "
        "pinned, schema_version, full_bytes, stored_bytes, state_digest, NULL, encoding, payload FROM checkpoints"
    )
    dialect = dialect_for(chains.url)
    engine = dialect.create_engine(Settings())
    async with engine.connect() as connection:
        with pytest.raises(Exception) as error:  # noqa: PT011 - of either driver
            await connection.execute(text(statement))
    await engine.dispose()
    failure = dialect.explain(error.value)
    assert failure is not None
    assert "holds such a row already" in str(failure.error)


@pytest.mark.parametrize("database", ["postgresql"])
async def test_who_saves_a_new_id_beside_another_with_the_same_content_tries_again(database_url: str) -> None:
    """PostgreSQL then says that the content is there, though the statement says what to do with an id that is."""
    dialect = dialect_for(database_url)
    statement = (
        "INSERT INTO checkpoints (checkpoint_id, workflow_name, created_at, status, is_paused, superseded, "
        "current_wave_index, pinned, schema_version, full_bytes, stored_bytes, state_digest, base_digest, encoding, "
        "payload) VALUES ($1, 'w', 1, 'running', false, false, 0, false, 1, 1, 1, 'same', NULL, 'json', '') "
        "ON CONFLICT (checkpoint_id) DO UPDATE SET state_digest = excluded.state_digest"
    )
    connections = [await asyncpg.connect(database_url) for _ in range(6)]
    met: list[Exception] = []
    try:
        for n in range(5000):
            saves = (one.execute(statement, f"c{n}") for one in connections)
            met = [one for one in await asyncio.gather(*saves, return_exceptions=True) if isinstance(one, Exception)]
            if any(isinstance(one, asyncpg.UniqueViolationError) for one in met):
                break
    finally:
        for one in connections:
            await one.close()
    assert met
    for error in met:
        failure = dialect.explain(error)
        assert failure is not None
        assert failure.retriable
