"""Claims of checkpoints, taken back when what was claimed cannot be used."""

import asyncio
from contextlib import suppress

from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.engine.leases import already_claimed, not_found
from workflows_mcp.errors import CheckpointStoreError, StoreConfigurationError
from workflows_mcp.persistence import lease_statements
from workflows_mcp.persistence.database import Database
from workflows_mcp.persistence.deltas import Deltas
from workflows_mcp.persistence.statements import Loading, Query
from workflows_mcp.persistence.states import States

__all__ = ["Claims"]


class Claims:
    """Leases checkpoints to those who go on with their runs.

    Args:
        database: Where the checkpoints are.
        states: Makes states of what was claimed.
        deltas: Where such a state is kept, since its run is about to go on.
        loading: How rows are loaded.
    """

    def __init__(self, database: Database, states: States, deltas: Deltas, loading: Loading) -> None:
        self._database = database
        self._states = states
        self._deltas = deltas
        self._loading = loading

    async def claim(self, checkpoint_id: str, owner: str, seconds: float) -> CheckpointState:
        """Claim a checkpoint for some seconds, and load it; see `CheckpointStore.claim_checkpoint`."""

        def claim(is_repeated: bool) -> Query:  # noqa: FBT001 - as `fetch_changed` has it
            return lease_statements.claim(checkpoint_id, owner, seconds, is_repeated=is_repeated, loading=self._loading)

        database = self._database
        own = (checkpoint_id,)
        # What to go back to if it turns out to be damaged: claiming it does not tell what was there before.
        before = await database.fetch(lease_statements.holder(checkpoint_id))
        if before:
            await self._require_saving_after(checkpoint_id)
        try:
            claimed = await database.fetch_changed(claim, keys=own)
        except asyncio.CancelledError:
            self._let_go(checkpoint_id, owner)
            raise
        if not claimed:
            found = await database.fetch(lease_statements.holder(checkpoint_id))
            if not found:
                raise not_found(checkpoint_id)
            [[is_superseded, ends, _]] = found
            raise already_claimed(checkpoint_id, is_superseded=is_superseded, lease_expires_at=ends)
        try:
            row, contents = await self._states.contents_of(claimed[0])
        except asyncio.CancelledError:
            self._let_go(checkpoint_id, owner)
            raise
        except Exception:
            _, ended_at, owner_before = before[0] if before else (None, None, None)
            undo = lease_statements.undo_claim(checkpoint_id, owner, ended_at=ended_at, before=owner_before)
            with suppress(CheckpointStoreError):  # the reason is what the caller must hear of
                await database.change(undo, keys=own)
            raise
        self._deltas.loaded(row, contents.state.run_id, contents.plain)
        return contents.state

    def _let_go(self, checkpoint_id: str, owner: str) -> None:
        """Release what may have been claimed, in the background."""
        release = lease_statements.release(checkpoint_id, owner)
        self._database.calls.start_quietly(self._database.change(release, keys=(checkpoint_id,)))

    async def _require_saving_after(self, checkpoint_id: str) -> None:
        """Raise an error when nothing may be saved here.

        A run that was claimed would do its work in vain, and again whenever somebody looks for abandoned ones.
        """
        try:
            self._database.require_saving()
        except StoreConfigurationError:
            await self._states.load(checkpoint_id)  # that it cannot be opened either says more about it
            raise
