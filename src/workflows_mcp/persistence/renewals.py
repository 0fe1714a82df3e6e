"""Leases are renewed together: whoever asks before a renewal's turn has come shares its commit."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from workflows_mcp.errors import CheckpointStoreError, copy_error

__all__ = ["Renewals"]

Lease = tuple[str, str]
"""The id of a checkpoint, and the owner of its lease."""


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
        renew: Calls a function when its turn has come, renews what that returns (ids, owners, seconds), and returns the
            ids and owners of the leases that were not lost.
        spawn: Starts a task that the owner waits for when it closes.
    """

    def __init__(
        self,
        renew: Callable[[Callable[[], Sequence[tuple[str, str, float]]]], Awaitable[Sequence[Sequence[Any]]]],
        spawn: Callable[[Coroutine[Any, Any, frozenset[Lease]]], "asyncio.Task[frozenset[Lease]]"],
    ) -> None:
        self._renew = renew
        self._spawn = spawn
        self._open: _Group | None = None

    async def renew(self, checkpoint_id: str, owner: str, lease_seconds: float) -> bool:
        """Renew a lease; False: it is lost.

        Raises:
            CheckpointStoreError: The error, in the project's terms.
        """
        group = self._open
        if group is None:
            group = self._open = _Group()
            group.done = self._spawn(self._renew_together(group))
        lease = checkpoint_id, owner
        group.leases[lease] = max(lease_seconds, group.leases.get(lease, 0.0))
        assert group.done is not None
        await asyncio.wait({group.done})  # not cancelled with one of those who wait for it
        failure = None if group.done.cancelled() else group.done.exception()
        if isinstance(failure, CheckpointStoreError):
            raise copy_error(failure)
        return lease in group.done.result()

    async def _renew_together(self, group: _Group) -> frozenset[Lease]:
        def close() -> Sequence[tuple[str, str, float]]:
            self._shut(group)
            # In one order everywhere: two servers that lock the same rows do not deadlock.
            return [(*lease, seconds) for lease, seconds in sorted(group.leases.items())]

        try:
            return frozenset((row[0], row[1]) for row in await self._renew(close))
        finally:
            self._shut(group)  # also when its turn never came

    def _shut(self, group: _Group) -> None:
        if self._open is group:
            self._open = None
