"""A database of each revision that somebody has is brought to the newest one, and goes on to be used."""

import json
import time

import pytest

from tests.migrations.stored import ASKING, FOLDER, restore, states_in
from workflows_mcp import SQLAlchemyCheckpointStore, WorkflowExecutor
from workflows_mcp.persistence.revisions import REVISIONS
from workflows_mcp.persistence.schema import SchemaManager

OURS = REVISIONS[1:]
"""The first is the guide's: see test_guide_database.py."""


@pytest.mark.parametrize("revision", OURS)
async def test_a_stored_database_is_upgraded_and_used(revision: str, database: str, empty_url: str) -> None:
    """Nothing is lost or changed; what waited is answered, what was left behind goes on, what is pinned stays."""
    assert (FOLDER / f"{revision}.{database}").exists(), (
        "make it with: python3 run.py python -m tests.migrations.stored"
    )
    expected = await restore(revision, database, empty_url)
    manager = SchemaManager(empty_url)
    assert await manager.current() == revision
    await manager.upgrade()
    await manager.check()
    held = await states_in(empty_url)
    assert held.keys() == expected.keys() >= {"guide", "guide-paused", "values", "large", "pinned", "left-0"}
    for checkpoint_id, text in expected.items():
        then, now = json.loads(text), json.loads(held[checkpoint_id])  # which may have fields that are newer
        assert json.dumps({name: now[name] for name in then}) == text

    async with SQLAlchemyCheckpointStore(empty_url) as store:
        assert {one.run_id for one in await store.list_abandoned()} == {"left"}
        assert {one.checkpoint_id for one in await store.list_checkpoints() if one.pinned} == {"pinned"}
        executor = WorkflowExecutor(store)
        executor.load_workflow(ASKING)
        runs = {run.run_id: run for run in await executor.list_runs()}
        assert {run_id: run.status for run_id, run in runs.items()} == {
            "waiting": "paused",
            "over": "success",
            "bad": "failure",
            "left": "running",
        }
        asked = await executor.resume_workflow(runs["waiting"].checkpoint_id, "yes")
        assert asked.prompt == "Deploy to us?"
        assert (await executor.resume_workflow(str(asked.checkpoint_id), "no")).is_success
        recovered = await executor.recover("left")
        assert not isinstance(recovered, list)
        assert recovered.prompt == "Deploy to eu?"
        assert (await executor.fork(runs["bad"].checkpoint_id)).status == "failure"
        waiting = {one.run_id or one.checkpoint_id for one in await store.list_checkpoints(is_paused=True)}
        assert waiting == {"left", "guide-paused"}
        await store.cleanup_expired(max(time.time() - 1e9 - 86400, 1))
        assert await store.load_checkpoint("pinned") is not None
        assert await store.load_checkpoint("large") is None
