"""SQL in every filter, id, owner, limit and cursor."""

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar
from unittest import mock

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.faults.injections import CURSORS, INJECTIONS, MARK, NUMBER, NUMBERS, WRONG
from tests.faults.load import state_of
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import CheckpointStore, InMemoryCheckpointStore, SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.persistence.dialects.postgresql_held import HeldPostgreSQLConnection
from workflows_mcp.persistence.dialects.sqlite_held import HeldSQLiteConnection

__all__ = ["ROW"]

T = TypeVar("T")


async def check(place: Place, effort: Effort) -> Verdict:
    """Ask a database and a store in memory the same, and read every statement that reaches the driver."""
    verdict = Verdict({"calls": 0})
    await upgrade_schema(place.url)
    statements: list[str] = []
    engine = _engine(place)
    event.listen(engine.sync_engine, "before_cursor_execute", _noting(statements))
    try:
        with _reading(statements):
            async with (
                InMemoryCheckpointStore() as memory,
                SQLAlchemyCheckpointStore(place.url) as owned,
                SQLAlchemyCheckpointStore(engine) as given_one,
            ):
                of_owned: AsyncEngine = owned._database.engine
                event.listen(of_owned.sync_engine, "before_cursor_execute", _noting(statements))
                trial = _Trial(memory, [owned, given_one], verdict)
                await trial.fill()
                for text in INJECTIONS[:: effort.of(1, 12)]:
                    await trial.ask(text.format(MARK))
                await trial.ask_nonsense(WRONG[: effort.of(len(WRONG), 1)])
                loop = asyncio.get_running_loop()
                await asyncio.to_thread(_search, trial, loop, effort)
                await trial.compare_all()
    finally:
        await engine.dispose()
    marked = {one for one in statements if MARK in one or str(NUMBER) in one}
    for one in list(marked)[:3]:
        verdict.broken.append(f"a value stands in a statement: {one:.300}")
    verdict.figures.update(
        {"calls": trial.calls, "matches": trial.matches, "statements": len(statements), "with a value": len(marked)}
    )
    verdict.require(statements and trial.matches, "no statement was seen, or nothing was found")
    return verdict


def _engine(place: Place) -> AsyncEngine:
    """An engine of somebody else's."""
    if place.database == "sqlite":
        return create_async_engine(f"sqlite+aiosqlite:///{place.url}")
    return create_async_engine(place.url.replace("postgresql://", "postgresql+asyncpg://"))


def _noting(statements: list[str]) -> Callable[..., None]:
    def note(_connection: object, _cursor: object, statement: str, *_others: object) -> None:
        statements.append(statement)

    return note


class _Reader:
    """A connection of SQLite's that takes down what it is told."""

    def __init__(self, connection: Any, statements: list[str]) -> None:
        self._connection = connection
        self._statements = statements

    def execute(self, sql: str, *values: Any) -> Any:
        self._statements.append(sql)
        return self._connection.execute(sql, *values)

    def executemany(self, sql: str, *values: Any) -> Any:
        self._statements.append(sql)
        return self._connection.executemany(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@contextlib.contextmanager
def _reading(statements: list[str]) -> Iterator[None]:
    """Read along with the connections that are held, which SQLAlchemy knows nothing of. Nothing else is changed."""
    open_file, begin = HeldSQLiteConnection._open, HeldPostgreSQLConnection.__init__

    def open_and_read(self: Any) -> None:
        open_file(self)
        self._opened = _Reader(self._opened, statements)

    def begin_and_read(self: Any, connection: Any, *others: Any, **options: Any) -> None:
        connection.add_query_logger(lambda record: statements.append(record.query))
        begin(self, connection, *others, **options)

    with (
        mock.patch.object(HeldSQLiteConnection, "_open", open_and_read),
        mock.patch.object(HeldPostgreSQLConnection, "__init__", begin_and_read),
    ):
        yield


class _Trial:
    """Asks a database, by its URL and over somebody's engine, what it asks a store in memory, and compares.

    Attributes:
        calls: How many there were.
        matches: How many checkpoints were found by what was asked for.
    """

    def __init__(self, memory: CheckpointStore, stores: list[SQLAlchemyCheckpointStore], verdict: Verdict) -> None:
        self.calls = self.matches = 0
        self._memory = memory
        self._stores = stores
        self._verdict = verdict

    async def fill(self) -> None:
        """Save checkpoints that bear such names, and others that must not be found by them."""
        for number, text in enumerate(INJECTIONS):
            name = text.format(MARK)
            for kind, changes in enumerate(_kinds(name)):
                state = dataclasses.replace(state_of(f"{number}-{kind}", number), **changes)
                for store in (self._memory, self._stores[0]):
                    await store.save_checkpoint(state)

    async def both(self, what: str, call: Callable[[CheckpointStore], Awaitable[Any]]) -> None:
        """Ask all, and compare."""
        wanted = await _outcome(call(self._memory))
        for store in self._stores:
            self.calls += 1
            found = await _outcome(call(store))
            if found != wanted and len(self._verdict.broken) < 20:
                self._verdict.broken.append(f"{what}: {found!s:.200}, and in memory {wanted!s:.200}")
        self.matches += len(wanted) if isinstance(wanted, list) else 0

    async def ask(self, text: Any) -> None:
        """Put a text wherever a value can be given. Nothing is changed by it, since no checkpoint bears that name."""
        for name in ("workflow_name", "run_id", "status", "id_contains"):
            await self._list(**{name: text})
            await self._list(**{name: text}, limit=NUMBER, created_after=NUMBER + 0.5, heads_only=True)
        for cursor in (text, f"{NUMBER}.5,{text}", f"1.8e9,{text}", f"{text},1", f"1800000003.0,{text}"):
            await self._list(before=cursor)
            await self._list(before=cursor, limit=5, run_id="r")
        for count in ("limit", "created_after", "created_before", "is_paused", "heads_only", "runs_only"):
            await self._list(**{count: text})
        await self.both("series", lambda store: _counted(store, text, 2))
        await self.both("series", lambda store: _counted(store, 0, text))
        await self.both("load", lambda store: _id_of(store.load_checkpoint(text)))
        await self.both("loads", lambda store: _together(store, text))
        await self.both("iterate", lambda store: _streamed(store, workflow_name=text))
        await self.both("iterate", lambda store: _streamed(store, run_id=text))
        absent = f"{text}{MARK}absent" if isinstance(text, str) else text
        await self.both("claim", lambda store: store.claim_checkpoint(absent, text, NUMBER))
        await self.both("renew", lambda store: store.renew_lease(absent, text, NUMBER))
        await self.both("renew", lambda store: store.renew_lease(text, text, NUMBER))
        await self.both("release", lambda store: store.release_claim(absent, text))
        await self.both("pin", lambda store: store.pin_checkpoint(absent))
        await self.both("pin", lambda store: store.pin_checkpoint("absent", text))
        await self.both("delete", lambda store: store.delete_checkpoint(absent))
        await self.both("delete", lambda store: store.delete_run(absent))
        state = state_of(f"{MARK}new", 1)
        await self.both("follow", lambda store: store.save_checkpoint(state, follows=absent, owner=text))
        await self.both("abandoned", lambda store: store.list_abandoned(text))
        wrong: Any = text if isinstance(text, str) else NUMBER
        await self.both("trim", lambda store: store.trim_per_workflow(wrong))
        await self.both("expire", lambda store: store.cleanup_expired(wrong))

    async def _list(self, **filters: Any) -> None:
        await self.both(f"list {filters!r:.120}", lambda store: _ids(store, filters))

    async def ask_nonsense(self, wrong: list[Any]) -> None:
        """Cursors that were forged or cut off, and values of wrong types."""
        for cursor in CURSORS:
            await self._list(before=cursor)
            await self._list(before=cursor, limit=3)
        for number in NUMBERS:
            for name in ("limit", "created_after", "created_before"):
                await self._list(**{name: number})
            await self.both("abandoned", functools.partial(_abandoned, limit=number))
        for value in wrong:
            await self.ask(value)

    async def compare_all(self) -> None:
        """Nothing has been changed by all this."""
        await self.both("all in the end", lambda store: _ids(store, {}))
        await self.both("all states", _streamed)


def _kinds(name: str) -> list[dict[str, Any]]:
    """In what ways a checkpoint bears a name; the last one bears another."""
    return [{"workflow_name": name}, {"checkpoint_id": name, "run_id": name}, {"run_id": "r", "workflow_name": MARK}]


async def _outcome(call: Awaitable[Any]) -> Any:
    """What a call comes to; of an error, its type and words."""
    try:
        return await call
    except Exception as error:  # noqa: BLE001 - it is compared
        return type(error).__name__, str(error)


async def _ids(store: CheckpointStore, filters: dict[str, Any]) -> list[str]:
    return [one.checkpoint_id for one in await store.list_checkpoints(**filters)]


async def _counted(store: CheckpointStore, since: Any, steps: Any) -> list[int]:
    return [one.checkpoints for one in await store.take_series(since, 2 * NUMBER, steps)]


async def _id_of(load: Awaitable[Any]) -> Any:
    loaded = await load
    return None if loaded is None else [loaded.checkpoint_id]


async def _together(store: CheckpointStore, text: Any) -> Any:
    """Loads that share a trip."""
    ids = [text, f"{text}'", "0-0", f'{text}","0-2', "[]", '["0-0"]']
    loaded = await asyncio.gather(*map(store.load_checkpoint, ids), return_exceptions=True)
    return [
        str(one) if isinstance(one, BaseException) else None if one is None else one.checkpoint_id for one in loaded
    ]


async def _abandoned(store: CheckpointStore, *, limit: Any) -> list[str]:
    return [one.checkpoint_id for one in await store.list_abandoned(limit)]


async def _streamed(store: CheckpointStore, **filters: Any) -> list[Any]:
    return [dataclasses.asdict(one) async for one in store.iter_checkpoints(**filters)]


def _search(trial: _Trial, loop: asyncio.AbstractEventLoop, effort: Effort) -> None:
    """The same with what Hypothesis thinks of."""

    def wait(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    @seed(effort.seed)
    @settings(
        max_examples=effort.of(120, 4), deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.text(st.characters(), max_size=40) | st.text("'\"\\;-%_$?:[]{}()\n\0 ", max_size=20))
    def texts(text: str) -> None:
        wait(trial.ask(f"{MARK}{text}"))

    texts()


ROW = Row(
    fault="filters",
    promise="Whatever is asked for is a bound parameter: nothing is changed, only exact matches come back.",
    check=check,
)
