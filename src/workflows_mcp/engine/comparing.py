"""Two checkpoints compared, for whoever looks at them: without secrets."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.differences import Difference, difference
from workflows_mcp.engine.stored import listing_of
from workflows_mcp.errors import CheckpointNotFoundError

__all__ = [
    "ABOUT",
    "Comparison",
    "Names",
    "Scrub",
    "compare_checkpoints",
    "fields_of",
    "load_compared",
    "one_before",
]

Scrub = Callable[[Any], Any]
"""Masks the secrets in JSON data: `Secrets.scrub_now`."""

ABOUT = (
    "checkpoint_id",
    "created_at",
    "run_id",
    "workflow_name",
    "parent_checkpoint_id",
    "child_checkpoint_id",
    "schema_version",
)
"""The fields of a state that say which checkpoint it is, and not how far its run has come."""


@dataclass(frozen=True)
class Names:
    """Which checkpoint it is, by its very names: what can be looked up must not be masked.

    Attributes:
        checkpoint_id: The checkpoint.
        run_id: Its run; None: it belongs to none.
        workflow_name: The workflow.
    """

    checkpoint_id: str
    run_id: str | None
    workflow_name: str

    @classmethod
    def of(cls, state: CheckpointState) -> "Names":
        """The names of a checkpoint."""
        return cls(state.checkpoint_id, state.run_id, state.workflow_name)


@dataclass(frozen=True)
class Comparison:
    """What differs between two checkpoints.

    Attributes:
        before: The fields of the one by name, as plain JSON data without secrets; None: there is none.
        after: Those of the other.
        about: What differs in the fields that say which checkpoint it is: `ABOUT`.
        difference: What differs in all others.
        named_before: Which one it is; None: there is none.
        named_after: Which one the other is.
    """

    before: dict[str, Any] | None
    after: dict[str, Any]
    about: Difference
    difference: Difference
    named_before: Names | None
    named_after: Names

    @property
    def is_of_one_run(self) -> bool:
        """Whether both belong to one run."""
        return self.named_before is not None and self.named_before.run_id == self.named_after.run_id is not None

    @property
    def is_of_one_workflow(self) -> bool:
        """Whether both belong to runs of a workflow of one name."""
        return self.named_before is not None and self.named_before.workflow_name == self.named_after.workflow_name


async def compare_checkpoints(
    store: CheckpointStore, checkpoint_id: str, other_id: str | None, scrub: Scrub, *, most: int | None = None
) -> Comparison:
    """What differs between two checkpoints, from the first to the second.

    Args:
        store: Keeps them.
        checkpoint_id: The first.
        other_id: The second, of any run. None: the first is what the one before it in its run is compared with; the
            begin of a run is compared with nothing.
        scrub: Masks secrets; what differs in nothing else counts as alike.
        most: The most changes to name; None: all.

    Raises:
        CheckpointNotFoundError: There is none of this id.
        CheckpointDecodeError: One is damaged.
        CheckpointStoreError: The store failed.
    """
    if other_id is None:
        after = await load_compared(store, checkpoint_id)
        listed = await one_before(store, after)
        before = None if listed is None else await load_compared(store, listed.checkpoint_id)
    else:
        before, after = await load_compared(store, checkpoint_id), await load_compared(store, other_id)
    return await asyncio.to_thread(_compare, before, after, scrub, most)


async def load_compared(store: CheckpointStore, checkpoint_id: str) -> CheckpointState:
    """A checkpoint.

    Raises:
        CheckpointNotFoundError: There is none of this id.
        CheckpointStoreError: The store failed, or the checkpoint is damaged.
    """
    state = await store.load_checkpoint(checkpoint_id)
    if state is None:
        raise CheckpointNotFoundError(f"there is no checkpoint {checkpoint_id!r}")
    return state


async def one_before(store: CheckpointStore, state: CheckpointState) -> CheckpointMetadata | None:
    """The checkpoint before one in its run; None: it is the begin, or belongs to no run."""
    listed = None if state.run_id is None else await listing_of(store, state)
    if listed is None:
        return None
    found = await store.list_checkpoints(run_id=state.run_id, limit=1, before=listed)
    return found[0] if found else None


def fields_of(state: CheckpointState, scrub: Scrub) -> dict[str, Any]:
    """The fields of a state by name, in their order, as plain JSON data without secrets; not to be changed."""
    plain = {one.name: getattr(state, one.name) for one in fields(CheckpointState)}
    # One by one: the names of the fields are no data, though one of them may hold what is a secret elsewhere.
    return {name: scrub(value) for name, value in {**plain, "status": state.status.value}.items()}


def _compare(before: CheckpointState | None, after: CheckpointState, scrub: Scrub, most: int | None) -> Comparison:
    new = fields_of(after, scrub)
    old = None if before is None else fields_of(before, scrub)
    known = {} if old is None else old
    return Comparison(
        before=old,
        after=new,
        about=difference(_only(known, within=True), _only(new, within=True)),
        difference=difference(_only(known, within=False), _only(new, within=False), most=most),
        named_before=None if before is None else Names.of(before),
        named_after=Names.of(after),
    )


def _only(fields: dict[str, Any], *, within: bool) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if (name in ABOUT) is within}
