"""Every call of a store, ready to be made again and again against a database in trouble."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from tests.faults.load import state_of
from workflows_mcp import CheckpointStatus, CheckpointStore

__all__ = ["READS", "WRITES", "make_ready"]

Call = Callable[[CheckpointStore], Awaitable[object]]

_DONE = CheckpointStatus.COMPLETED


async def _iterate(store: CheckpointStore) -> int:
    return len([state async for state in store.iter_checkpoints()])


WRITES: Mapping[str, Call] = {
    "save": lambda store: store.save_checkpoint(state_of("new", 1)),
    "save a delta": lambda store: store.save_checkpoint(state_of("chain/3", 3)),
    "follows": lambda store: store.save_checkpoint(
        state_of("next", 1), follows="followed", owner="owner", lease_seconds=60
    ),
    "claim": lambda store: store.claim_checkpoint("free", "claimer"),
    "renew": lambda store: store.renew_lease("renewed", "owner", 60),
    "release": lambda store: store.release_claim("released", "owner"),
    "pin": lambda store: store.pin_checkpoint("pinned"),
    "delete": lambda store: store.delete_checkpoint("doomed"),
    "delete a base": lambda store: store.delete_checkpoint("chain/0"),
    "delete run": lambda store: store.delete_run("doomed run"),
    "cleanup": lambda store: store.cleanup_expired(1e8),
    "trim": lambda store: store.trim_per_workflow(1),
}
"""Calls that write. Each does something of its own in a database that was made ready."""

READS: Mapping[str, Call] = {
    "load": lambda store: store.load_checkpoint("free"),
    "load a delta": lambda store: store.load_checkpoint("chain/2"),
    "list": lambda store: store.list_checkpoints(limit=20),
    "list all": lambda store: store.list_checkpoints(),
    "abandoned": lambda store: store.list_abandoned(limit=5),
    "iterate": _iterate,
    "stats": lambda store: store.get_stats(),
}
"""Calls that read."""


async def make_ready(store: CheckpointStore) -> None:
    """Save what the calls are about."""
    for name in ("followed", "free", "renewed", "released", "pinned", "doomed"):
        await store.save_checkpoint(state_of(name, 0))
    for name in ("followed", "renewed", "released"):
        await store.claim_checkpoint(name, "owner", 3600)
    for number in range(3):
        await store.save_checkpoint(state_of(f"chain/{number}", number))
    await store.save_checkpoint(replace(state_of("of a run", 0), run_id="doomed run", status=_DONE))
    await store.save_checkpoint(replace(state_of("old", 0), created_at=1.0, workflow_name="old", status=_DONE))
    for number in range(3):
        many = replace(state_of(f"many-{number}", number), workflow_name="many", status=_DONE)
        await store.save_checkpoint(many)
