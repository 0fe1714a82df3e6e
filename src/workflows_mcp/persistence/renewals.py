"""Leases are renewed together: whoever asks before a renewal's turn has come shares its commit.

One whose row somebody else has locked holds up none of the others: it is left out, and renewed alone.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Protocol

from workflows_mcp.errors import CheckpointStoreError, StoreUnavailableError, copy_error
from workflows_mcp.persistence.dialects import Row
from workflows_mcp.persistence.statements import Query

__all__ = ["Renewals"]

Lease = tuple[str, str]
"""The id of a checkpoint, and the owner of its lease."""


class Change(Protocol):
    """Runs a statement that writes; see `Database.fetch_changed`."""

    def __call__(
        self, make: Callable[[bool], Query], *, keys: Collection[str], deadline: float | None = None
    ) -> Coroutine[Any, Any, Sequence[Sequence[Any]]]: ...


class _Group:
    """Leases that are renewed together.

    Attributes:
        leases: How many seconds each is to last; more of them are taken until the renewal begins.
        done: Ends with those that were renewed.
    """

    def __init__(self) -> None:
        self.leases: dict[Lease, float] = {}
        self.done: asyncio.Task[frozenset[Lease]] | None = None


class Renewals:
    """Renews the leases of any number of runs.

    Args:
        change: Runs a statement.
        together: The statement that renews leases, each an id, an owner and a length in seconds; returns the ids and
            owners of those that it renewed. It leaves out rows that somebody else has locked.
        alone: The same, but it waits for such rows: what it does not return is lost.
        deadline_seconds: How long a call takes at the most.
        spawn: Starts a task that the owner waits for when it closes.
    """

    def __init__(
        self,
        change: Change,
        together: Callable[[Sequence[Row]], Query],
        alone: Callable[[Sequence[Row]], Query],
        *,
        deadline_seconds: float,
        spawn: Callable[[Coroutine[Any, Any, frozenset[Lease]]], "asyncio.Task[frozenset[Lease]]"],
    ) -> None:
        self._change = change
        self._together = together
        self._alone = alone
        self._deadline_seconds = deadline_seconds
        self._spawn = spawn
        self._open: _Group | None = None

    async def renew(self, checkpoint_id: str, owner: str, lease_seconds: float) -> bool:
        """Renew a lease; False: it is lost.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        deadline = asyncio.get_running_loop().time() + self._deadline_seconds
        group = self._open
        if group is None:
            group = self._open = _Group()
            group.done = self._spawn(self._renew_together(group))
        lease = checkpoint_id, owner
        group.leases[lease] = max(lease_seconds, group.leases.get(lease, 0.0))
        assert group.done is not None
        await asyncio.wait({group.done})  # not cancelled with one of those who wait for it
        if group.done.cancelled():
            raise StoreUnavailableError(
                f"the renewal of the lease on checkpoint {checkpoint_id!r} was cut short; try again"
            )
        failure = group.done.exception()
        if isinstance(failure, CheckpointStoreError):
            raise copy_error(failure)
        return lease in group.done.result() or await self._renew_alone((checkpoint_id, owner, lease_seconds), deadline)

    async def _renew_alone(self, lease: Row, deadline: float) -> bool:
        """Renew a lease that is lost, or whose row somebody had locked; in its turn among what is done to its id."""
        return bool(await self._change(lambda _: self._alone([lease]), keys=lease[:1], deadline=deadline))

    async def _renew_together(self, group: _Group) -> frozenset[Lease]:
        def renewal(_is_repeated: bool) -> Query:  # noqa: FBT001 - to renew twice is as good as once
            self._shut(group)
            return self._together([(*lease, seconds) for lease, seconds in group.leases.items()])

        try:
            # A lease is longer or not when a save waits for a lock; to the save it is all the same.
            return frozenset((row[0], row[1]) for row in await self._change(renewal, keys=()))
        finally:
            self._shut(group)  # also when its turn never came

    def _shut(self, group: _Group) -> None:
        if self._open is group:
            self._open = None
