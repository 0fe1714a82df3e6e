"""Seals what is stored with the newest key, or takes its seals off, while others read and save.

A walk through the checkpoints by time and id, in small commits that take their turn among the saves. A row is changed
only while it still holds the very payload that was read, so that a save meanwhile is never overwritten. Nothing is kept
of how far a walk has come: another one passes over what is done.

The digest of a sealed state is made with its row's key. So it changes, too, and in the same statement what is a delta
of it, which names its base by that digest.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select

from workflows_mcp.engine.contract import CheckpointStore
from workflows_mcp.engine.filters import Position, check_count
from workflows_mcp.engine.state_json import damaged
from workflows_mcp.errors import CheckpointDecodeError, StoreConfigurationError
from workflows_mcp.persistence.database import Database
from workflows_mcp.persistence.deltas import Plains
from workflows_mcp.persistence.dialects import BrokenBaseError, RowsLockedError
from workflows_mcp.persistence.row_codec import Opened, RowCodec
from workflows_mcp.persistence.row_seal import key_of
from workflows_mcp.persistence.rows import base_of, is_odd, position_in, shown_text
from workflows_mcp.persistence.seals import BY_ENCODING, Seals, seals_of
from workflows_mcp.persistence.statements import LIMIT, TABLE, Query, its_place, place, place_values

__all__ = ["Rekeyed", "count_seals", "rekey", "rekey_checkpoints"]

_PAGE = 1000
"""So many ids are looked at together; a page takes a few milliseconds."""

_COMMIT_BYTES = 512 * 2**10
"""About the most payload of one commit, twice: what was there, and what is. One row alone may have more."""

_MOST_ROWS = 500

_MOST_WALKS = 5
"""So often what was saved meanwhile by others, with another key, or was locked by them, is gone after."""

_SECONDS_BETWEEN_WALKS = 1.0
"""How long is waited for who has locked rows, after a walk that could change none: most are done in a moment."""

_MOST_NAMED = 100
"""Of those that cannot be opened, so many are named."""

_C = TABLE.c


@dataclass
class Rekeyed:
    """What became of a database's seals.

    Attributes:
        total: How many checkpoints there were when it began.
        changed: How many were sealed anew, or are plain now.
        left: How many still ought to be, since they are saved anew all the time, or were just now, by processes with
            other keys; or somebody holds a lock on them.
        failed: How many could not be opened, and were left as they are.
        failures: Why, by their ids; the first hundred.
    """

    total: int = 0
    changed: int = 0
    left: int = 0
    failed: int = 0
    failures: dict[str, str] = field(default_factory=dict)


async def rekey_checkpoints(
    store: CheckpointStore,
    *,
    decrypt: bool = False,
    batch: int = 100,
    on_progress: Callable[[int, int], None] | None = None,
) -> Rekeyed:
    """Seal all checkpoints with the newest key of a store, those that are plain included.

    Others may read and save meanwhile, and wait for no more than a small commit. It may be stopped at any time, and
    begun again: what is done is passed over. What cannot be opened is left as it is, and told.

    Args:
        store: A `SQLAlchemyCheckpointStore` with keys.
        decrypt: Take the seals off instead. `WORKFLOWS_ENCRYPTION` must then be `off`, here and for all that save.
        batch: The most checkpoints of one commit, from 1 to 500.
        on_progress: Is told how many checkpoints were looked at, and of how many, as it goes on.

    Returns:
        What was done. When nothing is `left` nor `failed`, the older keys are not needed any more.

    Raises:
        StoreConfigurationError: The store has no keys, or `WORKFLOWS_ENCRYPTION` says otherwise.
        ValueError: `batch` is out of range, or the store keeps nothing in a database.
    """
    from workflows_mcp.persistence.store import SQLAlchemyCheckpointStore

    if not isinstance(store, SQLAlchemyCheckpointStore):
        raise ValueError(f"only the checkpoints of a database are sealed, not those of a {type(store).__name__}")  # noqa: TRY004 - a bad argument
    return await store.rekey(decrypt=decrypt, batch=batch, on_progress=on_progress)


async def rekey(
    database: Database,
    codec: RowCodec,
    *,
    decrypt: bool,
    batch: int,
    on_progress: Callable[[int, int], None] | None,
) -> Rekeyed:
    """See `rekey_checkpoints`."""
    if check_count("batch", batch, at_least=1) > _MOST_ROWS:
        raise ValueError(f"batch must be at most {_MOST_ROWS}")
    _require_keys(codec, decrypt=decrypt)
    [[total]] = await database.fetch_long(Query(_COUNT))
    done = Rekeyed(total=total)
    walk = _Walk(database, codec, done, decrypt=decrypt, batch=batch)
    changed = -1
    for number in range(_MOST_WALKS):
        if number and done.changed == changed:
            await asyncio.sleep(_SECONDS_BETWEEN_WALKS)
        changed = done.changed
        done.left, done.failed, done.failures = 0, 0, {}
        await walk.through(on_progress or (lambda *_: None))
        if done.changed == changed and not done.left:
            break
    return done


async def count_seals(database: Database) -> Seals:
    """How many checkpoints are sealed with what. Takes a pass through the table, and has no deadline."""

    async def work(connection: Any) -> Sequence[Any]:  # noqa: ANN401 - SQLAlchemy's connection
        rows: Sequence[Any] = (await connection.execute(BY_ENCODING)).all()
        return rows

    return seals_of(await database.run_patiently(work))


def _require_keys(codec: RowCodec, *, decrypt: bool) -> None:
    if codec.keys is None:
        raise StoreConfigurationError(
            "there are no keys: make one with `workflows-mcp keys new`, and name it in WORKFLOWS_ENCRYPTION_KEYS, "
            "_KEY_FILE or _KEY_COMMAND"
        )
    if decrypt and codec.seals:
        raise StoreConfigurationError(
            "what is saved would still be sealed: set WORKFLOWS_ENCRYPTION to off before the seals are taken off, in "
            "every process that saves here"
        )
    if not decrypt and not codec.seals:
        raise StoreConfigurationError(
            "WORKFLOWS_ENCRYPTION is off, so that nothing is sealed; unset it, or take the seals off with --decrypt"
        )


class _Walk:
    """Goes through all checkpoints once, from the oldest to the newest.

    Args:
        database: Where they are.
        codec: Opens and seals.
        done: Where to note what was done.
        decrypt: Whether seals are taken off.
        batch: The most rows of one commit.
    """

    def __init__(self, database: Database, codec: RowCodec, done: Rekeyed, *, decrypt: bool, batch: int) -> None:
        self._database = database
        self._codec = codec
        self._done = done
        self._decrypt = decrypt
        self._batch = batch
        self._plains = Plains()
        self._wanted = None if decrypt or codec.keys is None else codec.keys.newest.name

    async def through(self, on_progress: Callable[[int, int], None]) -> None:
        """Change what is not as it should be."""
        seen = 0
        last: Position | None = None
        while rows := await self._database.fetch(_page(last)):
            before, last = last, position_in(rows[-1])
            if last == before:
                break  # an id that is no text, which no store has written, is not behind itself
            for some in _within(rows, self._batch):
                others = [row for row in some if not self._is_done(row[2])]
                if others:
                    await self._change(others)
                seen += len(some)
                on_progress(seen, max(self._done.total, seen))

    def _is_done(self, encoding: object) -> bool:
        return key_of(encoding) == self._wanted

    async def _change(self, rows: Sequence[Sequence[Any]]) -> None:
        """Change some rows in one commit."""
        began = time.monotonic()
        ids = [checkpoint_id for _, checkpoint_id, *_ in rows]
        for odd in filter(is_odd, ids):
            self._fail(odd, damaged(shown_text(odd), "its id is no text that a store would take"))
        try:
            await self._change_together([one for one in ids if not is_odd(one)])
        finally:
            # As long as it took: others who save get at least half of the database's time.
            await asyncio.sleep(max(self._database.dialect.seconds_between_deletions, time.monotonic() - began))

    async def _change_together(self, ids: Sequence[str]) -> None:
        """Change some rows, and what names them by their digests; if that fails, each half of them alone."""
        database, done = self._database, self._done
        loaded = {row[0]: row for row in await database.load_many(ids, self._plains)}
        # Others were deleted since, or saved anew.
        found = [loaded[one] for one in ids if one in loaded and not self._is_done(loaded[one][-2])]
        # In a thread: to open and check them takes longer than a save of this process should wait.
        opened, failures = await asyncio.to_thread(self._opened, found)
        deltas = await database.fetch_long(database.chains.deltas_of(opened)) if opened else ()
        failure: CheckpointDecodeError | None = None
        try:
            changed = await self._rewrite(await asyncio.to_thread(self._changes, opened, deltas))
        except CheckpointDecodeError as error:  # what is a delta of one of them cannot be opened
            failure = error
        except (BrokenBaseError, RowsLockedError):
            pass  # somebody has just made a delta of one of them, or has locked one, or what is a delta of it
        else:
            done.changed += len(changed & opened.keys())
            done.left += len(opened.keys() - changed)
            for name, why in failures.items():
                self._fail(name, why)
            return
        if len(ids) > 1:
            half = len(ids) // 2
            await self._change_together(ids[:half])
            await self._change_together(ids[half:])
        elif failure is None:
            done.left += 1
        else:
            self._fail(ids[0], failure)

    async def _rewrite(self, changes: Sequence[Mapping[str, Any]]) -> set[str]:
        """Make changes; returns the ids of what was changed.

        Raises:
            BrokenBaseError: Something is a delta of one of them, and not among them, or somebody has locked it.
            RowsLockedError: Somebody has locked one of them in a way that lets others change all but its digest.
        """
        if not changes:
            return set()
        query = await asyncio.to_thread(self._compiled, changes)
        keys = [one["checkpoint_id"] for one in changes]
        # What is locked may be so for long. The lane is not to try it again and again, nor the walk to end for it.
        return {name for (name,) in await self._database.fetch_changed(lambda _: query, keys=keys, waits=False)}

    def _compiled(self, changes: Sequence[Mapping[str, Any]]) -> Query:
        """The statement for some changes, compiled: the first time, that takes longer than a save should wait."""
        query = self._database.chains.rewriting.query(changes)
        self._database.compiler.sql(query)
        return query

    def _opened(
        self, rows: Sequence[Sequence[Any]]
    ) -> tuple[dict[str, tuple[Sequence[Any], Opened]], dict[str, CheckpointDecodeError]]:
        """What is in some rows, by their ids, and why others cannot be opened."""
        opened, failures = dict[str, tuple[Sequence[Any], Opened]](), dict[str, CheckpointDecodeError]()
        for row in rows:
            try:
                opened[row[0]] = row, self._codec.opened(row, decrypt=self._decrypt)
            except CheckpointDecodeError as error:
                failures[row[0]] = error
        return opened, failures

    def _changes(
        self, opened: Mapping[str, tuple[Sequence[Any], Opened]], deltas: Sequence[Sequence[Any]]
    ) -> list[dict[str, Any]]:
        """The changes of some rows, and of those that are deltas of them."""
        made = []
        for row, one in opened.values():
            base = opened.get(base_of(row))
            digest = row[-3] if base is None else base[1].digest
            made.append({**_as_it_was(row), **self._codec.resealed(one, digest, decrypt=self._decrypt)})
        for row in deltas:
            before, after = opened[base_of(row)]
            if row[-3] == before[-5] != after.digest:
                made.append({**_as_it_was(row), **self._codec.rebased(row, after.digest)})
        return made

    def _fail(self, checkpoint_id: str, error: CheckpointDecodeError) -> None:
        self._done.failed += 1
        if len(self._done.failures) < _MOST_NAMED:
            self._done.failures[shown_text(checkpoint_id)] = str(error)


def _as_it_was(row: Sequence[Any]) -> dict[str, Any]:
    return {"checkpoint_id": row[0], "old_encoding": row[-2], "old_payload": row[-1]}


def _within(rows: Sequence[Sequence[Any]], most: int) -> Iterator[Sequence[Sequence[Any]]]:
    """The rows in parts of so many and, by the last column, so many bytes; one row alone may have more."""
    part: list[Sequence[Any]] = []
    size = 0
    for row in rows:
        own = max(row[-1], 0) if isinstance(row[-1], int) else 0
        if part and (len(part) == most or size + own > _COMMIT_BYTES):
            yield part
            part, size = [], 0
        part.append(row)
        size += own
    yield part


_COUNT = select(func.count()).select_from(TABLE)

_FIRST_PAGE = (
    select(_C.created_at, _C.checkpoint_id, _C.encoding, _C.stored_bytes)
    .order_by(_C.created_at, _C.checkpoint_id)
    .limit(LIMIT)
)
_NEXT_PAGE = _FIRST_PAGE.where(its_place > place("after"))


def _page(after: Position | None) -> Query:
    """The places, encodings and sizes of checkpoints, the oldest first, going on after a place."""
    statement = _FIRST_PAGE if after is None else _NEXT_PAGE
    return Query(statement, {**place_values("after", after), "limit": _PAGE})
