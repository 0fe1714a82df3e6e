"""The three stores, asked the same one after the other."""

import asyncio
import dataclasses
import itertools
import math
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeVar

from sqlalchemy import text

from workflows_mcp import (
    CheckpointMetadata,
    CheckpointState,
    CheckpointStats,
    CheckpointStore,
    CheckpointStoreError,
    InMemoryCheckpointStore,
    SQLAlchemyCheckpointStore,
)
from workflows_mcp.persistence.deltas import Step
from workflows_mcp.persistence.statements import Query
from workflows_mcp.settings import Settings

__all__ = ["LONGER", "MOMENT", "EnoughError", "Stores"]

T = TypeVar("T")

_NAMES = ("memory", "sqlite", "postgresql")

MOMENT, LONGER = 0.001, 0.004
"""A lease that has run out, and a time after which it has, in seconds."""


_MOST_SHOWN = 3_000

_LONGEST_CHAIN = text(
    "WITH RECURSIVE chain (base, links) AS ("
    "SELECT base_checkpoint_id, 0 FROM checkpoints UNION ALL "
    "SELECT base_checkpoint_id, links + 1 FROM chain JOIN checkpoints ON checkpoint_id = base WHERE links < 100"
    ") SELECT max(links) FROM chain"
)
"""The most bases one after the other; those that go round in circles have 100."""


class Stores:
    """The three of them, with empty databases; see `opened`.

    Attributes:
        began: When they were opened, in Unix seconds.
        done: How often each operation was done.
        raised: How often each kind of error was raised.
        examples: How often all began anew.
        deltas: How many states were made deltas.
        partings: How many were made whole since their base was to go, or to change.
        longest_chain: So many bases one after the other were met.
        disagreement: The shortest way that was found to one, and what they say; None: there was none.
    """

    def __init__(self, urls: dict[str, str], seconds_to_shorten: float) -> None:
        self._urls = urls
        self._runner = asyncio.Runner()
        self.began = float(int(time.time()))
        self.stores: dict[str, CheckpointStore] = {}
        self._pairs: dict[str, list[SQLAlchemyCheckpointStore]] = {}
        self.done: Counter[str] = Counter()
        self.raised: Counter[str] = Counter()
        self.examples = self.deltas = self.partings = self.longest_chain = 0
        self.disagreement: list[str] | None = None
        self._steps: list[str] = []
        self._seconds_to_shorten = seconds_to_shorten
        self._found_at = math.inf
        self._open()

    def _open(self, **chosen: Any) -> None:
        settings = Settings(**chosen)
        for name, url in self._urls.items():
            self._pairs[name] = [SQLAlchemyCheckpointStore(url, settings=settings) for _ in range(2)]
            for store in self._pairs[name]:
                self._watch(store)
            self.stores[name] = self._pairs[name][0]

    def _watch(self, store: SQLAlchemyCheckpointStore) -> None:
        """Count from now on what a store saves as deltas, and how many of these it makes whole."""
        codec, rewriting = store._codec, store._database.chains.rewriting
        filled, query = codec.filled, rewriting.query

        def fill_and_count(columns: Mapping[str, Any], plain: bytes, step: Step | None = None) -> dict[str, Any]:
            made = filled(columns, plain, step)
            self.deltas += made["base_checkpoint_id"] is not None
            return made

        def query_and_count(changes: Sequence[Mapping[str, Any]]) -> Query:
            self.partings += len(changes)
            return query(changes)

        codec.filled, rewriting.query = fill_and_count, query_and_count  # type: ignore[method-assign] # nothing else tells

    @classmethod
    @contextmanager
    def opened(cls, urls: dict[str, str], *, seconds_to_shorten: float) -> Iterator["Stores"]:
        """Open all, and close them in the end.

        Args:
            urls: Of the databases at head, by name.
            seconds_to_shorten: For how long to look for a shorter way to a disagreement.
        """
        stores = cls(urls, seconds_to_shorten)
        try:
            yield stores
        finally:
            stores.run(stores._close())
            stores._runner.close()

    async def _close(self) -> None:
        for store in itertools.chain(*self._pairs.values()):
            await store.close()

    def run(self, work: Awaitable[T]) -> T:
        """Wait for something on the one event loop of all stores."""

        async def wait() -> T:
            return await work

        return self._runner.run(wait())

    def clear(self) -> None:
        """Delete all that there is.

        Raises:
            EnoughError: A disagreement was found, and it is time to end.
        """
        if time.monotonic() > self._found_at + self._seconds_to_shorten:
            raise EnoughError
        self.examples += 1
        self._steps = []
        self.stores["memory"] = InMemoryCheckpointStore()

        async def clear(store: CheckpointStore) -> None:
            for one in await store.list_checkpoints():
                await store.delete_checkpoint(one.checkpoint_id)

        self.run(_all(clear(self.stores[name]) for name in self._urls))

    def reopen(self, **chosen: Any) -> None:
        """Close those that have a database, and open them again, perhaps with settings."""
        self._note("close and reopen with another cache" if chosen else "close and reopen", chosen)
        self.run(self._close())
        self._open(**chosen)

    def turn(self) -> None:
        """Go on with the other one of the two stores that each database has."""
        self._note("another process")
        for name, pair in self._pairs.items():
            pair.reverse()
            self.stores[name] = pair[0]

    def measure_chains(self) -> None:
        """Note how long the longest one is that there is now."""
        for pair in self._pairs.values():
            [[longest]] = self.run(pair[0]._database.fetch_long(Query(_LONGEST_CHAIN)))
            self.longest_chain = max(self.longest_chain, longest or 0)

    def _note(self, name: str, arguments: Mapping[str, object] = MappingProxyType({})) -> None:
        self.done[name] += 1
        shown = ", ".join(f"{one}={_brief(value)}" for one, value in arguments.items() if value is not None)
        self._steps.append(f"{name}({shown})")

    def ask(
        self,
        name: str,
        call: Callable[[CheckpointStore], Awaitable[object]],
        arguments: Mapping[str, object] = MappingProxyType({}),
        *,
        wait: bool = False,
    ) -> None:
        """Ask all of them the same, and compare what they say.

        Args:
            name: The operation.
            call: Does it.
            arguments: With what, to be shown.
            wait: Whether to let leases run out afterwards.

        Raises:
            AssertionError: They do not say the same.
        """
        self._note(name, arguments)
        found = dict(zip(_NAMES, self.run(_all(self._said(call(self.stores[one])) for one in _NAMES)), strict=True))
        if wait:
            self.run(asyncio.sleep(LONGER))
        said = found["memory"]
        if isinstance(said, _Raised):
            self.raised[said.kind] += 1
        if all(one == said for one in found.values()):
            return
        steps = [*self._steps, *(f"  {one}: {_brief(what, _MOST_SHOWN)}" for one, what in found.items())]
        if self.disagreement is None or len(steps) < len(self.disagreement):
            self.disagreement = steps
        self._found_at = min(self._found_at, time.monotonic())
        raise AssertionError(name)

    async def _said(self, call: Awaitable[object]) -> object:
        try:
            return _comparable(await call, self.began)
        except (CheckpointStoreError, ValueError) as error:
            return _Raised(type(error).__name__, re.sub(r" until [-0-9]+ [0-9:]+ UTC", " until then", str(error)))


class EnoughError(KeyboardInterrupt):
    """Ends the search: nothing else does once a way to a disagreement is being shortened, for minutes."""


def _brief(value: object, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


async def _all(calls: Iterator[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*calls))


@dataclasses.dataclass(frozen=True)
class _Raised:
    """An error, without what differs from one moment to the next."""

    kind: str
    text: str


def _comparable(value: object, began: float) -> object:
    """The same without what is a store's own: how it encodes, how large its file is, the very moment of a lease."""
    if isinstance(value, list):
        return [_comparable(one, began) for one in value]
    if isinstance(value, CheckpointMetadata):
        ends = value.lease_expires_at
        coarse = None if ends is None else float(round((ends - began) / 1000))
        return dataclasses.replace(value, lease_expires_at=coarse, stored_bytes=0, encoding="")
    if isinstance(value, CheckpointStats):
        return dataclasses.replace(value, stored_bytes=0, database_bytes=0)
    if isinstance(value, CheckpointState):
        return repr(value)  # which tells True from 1 and 0.0 from -0.0, as comparing does not
    return value
