"""What is deleted, and what is kept."""

import asyncio
import math
import time
from typing import Any

import pytest

from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.errors import LeaseLostError
from workflows_mcp.testing.leases import MOMENT, run_out
from workflows_mcp.testing.values import (
    make_state,
)

__all__ = ["RetentionContract"]


class RetentionContract:
    """What is deleted, and what is kept."""

    async def test_delete_tells_whether_it_was_there(self, store: CheckpointStore) -> None:
        """True once, then False; the others stay."""
        await store.save_checkpoint(make_state("one"))
        await store.save_checkpoint(make_state("two"))
        assert await store.delete_checkpoint("one") is True
        assert await store.delete_checkpoint("one") is False
        assert await store.load_checkpoint("one") is None
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == ["two"]

    async def test_cleanup_deletes_what_is_older(self, store: CheckpointStore) -> None:
        """And returns how many; later calls find nothing."""
        now = time.time()
        for name, age in (("old", 100), ("older", 1000), ("new", 10), ("future", -100)):
            await store.save_checkpoint(make_state(name, created_at=now - age))
        assert await store.cleanup_expired(60) == 2
        assert await store.cleanup_expired(60) == 0
        assert {one.checkpoint_id for one in await store.list_checkpoints()} == {"new", "future"}

    async def test_cleanup_never_removes_a_paused_checkpoint_unasked(self, store: CheckpointStore) -> None:
        """However old it is; with `keep_paused=False` it goes."""
        await store.save_checkpoint(make_state("paused", created_at=1.0, paused_block_id="b"))
        await store.save_checkpoint(make_state("plain", created_at=1.0))
        assert await store.cleanup_expired(60) == 1
        assert await store.load_checkpoint("paused") is not None
        assert await store.cleanup_expired(60, keep_paused=False) == 1

    @pytest.mark.parametrize("age", [-1, math.nan, math.inf, "60", None, True, 10**400])
    async def test_cleanup_refuses_a_bad_age(self, store: CheckpointStore, age: Any) -> None:  # noqa: ANN401 - that is the point
        """Nothing is deleted."""
        await store.save_checkpoint(make_state(created_at=1.0))
        with pytest.raises(ValueError, match="max_age_seconds"):
            await store.cleanup_expired(age)
        assert len(await store.list_checkpoints()) == 1

    async def test_trim_keeps_the_newest_of_each_workflow(self, store: CheckpointStore) -> None:
        """Those created at the same time go by their id."""
        for workflow in ("a", "b", "B"):
            for number in range(5):
                await store.save_checkpoint(
                    make_state(f"{workflow}{number}", workflow_name=workflow, created_at=float(number // 2))
                )
        await store.save_checkpoint(make_state("c0", workflow_name="c"))
        assert await store.trim_per_workflow(2) == 9
        assert await store.trim_per_workflow(2) == 0
        kept = {one.checkpoint_id for one in await store.list_checkpoints()}
        assert kept == {"a4", "a3", "b4", "b3", "B4", "B3", "c0"}

    async def test_trim_never_removes_a_paused_checkpoint_unasked(self, store: CheckpointStore) -> None:
        """Paused ones are kept besides and use up no slot; with `keep_paused=False` they are like the others."""
        for number in range(6):
            paused = "b" if number in {0, 3, 5} else None
            await store.save_checkpoint(make_state(str(number), created_at=float(number), paused_block_id=paused))
        assert await store.trim_per_workflow(2) == 1
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == ["5", "4", "3", "2", "0"]
        assert await store.trim_per_workflow(2, keep_paused=False) == 3
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == ["5", "4"]

    async def test_retention_takes_as_many_as_there_are(self, store: CheckpointStore) -> None:
        """More than any batch holds, with some among them that stay."""
        await asyncio.gather(
            *(
                store.save_checkpoint(
                    make_state(f"{n:04}", created_at=float(n), paused_block_id="b" if n % 100 == 0 else None)
                )
                for n in range(1200)
            )
        )
        assert await store.trim_per_workflow(600) == 1188 - 600
        assert await store.cleanup_expired(60) == 600
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == [
            f"{n:04}" for n in range(1100, -1, -100)
        ]

    async def test_retention_keeps_to_the_workflows_that_it_is_to_look_at(self, store: CheckpointStore) -> None:
        """One alone, or all but some; by age and by count."""
        for workflow in ("a", "b", "c"):
            for number in range(3):
                state = make_state(f"{workflow}{number}", workflow_name=workflow, created_at=float(number))
                await store.save_checkpoint(state)
        assert await store.trim_per_workflow(2, workflow_name="a") == 1
        assert await store.trim_per_workflow(2, except_workflows=["a", "c", "absent"]) == 1
        assert {one.checkpoint_id for one in await store.list_checkpoints()} == {
            "a1",
            "a2",
            "b1",
            "b2",
            "c0",
            "c1",
            "c2",
        }
        assert await store.cleanup_expired(60, workflow_name="absent") == 0
        assert await store.cleanup_expired(60, workflow_name="a") == 2
        assert await store.cleanup_expired(60, except_workflows={"c"}) == 2
        assert {one.checkpoint_id for one in await store.list_checkpoints()} == {"c0", "c1", "c2"}

    async def test_retention_of_one_workflow_leaves_alone_what_it_always_does(self, store: CheckpointStore) -> None:
        """Pinned, waiting, leased ones and what can be recovered, and the age of what was leased counts from then."""
        await store.save_checkpoint(make_state("pinned", created_at=1.0))
        await store.pin_checkpoint("pinned")
        await store.save_checkpoint(make_state("waits", created_at=1.0, paused_block_id="b"))
        await store.save_checkpoint(make_state("held", created_at=1.0, status="failed"), owner="me", lease_seconds=60)
        for name, status in (("abandoned", "running"), ("lately", "failed")):
            await store.save_checkpoint(make_state(name, created_at=1.0, status=status), owner="me", lease_seconds=60)
            await store.release_claim(name, "me")
        await store.save_checkpoint(make_state("old", created_at=1.0))
        name = (await store.list_checkpoints())[0].workflow_name
        assert await store.cleanup_expired(60, workflow_name=name) == 1
        assert await store.cleanup_expired(60, workflow_name=name, keep_paused=False) == 1
        kept = {one.checkpoint_id for one in await store.list_checkpoints()}
        assert kept == {"pinned", "held", "abandoned", "lately"}

    async def test_retention_tells_of_what_it_deletes_while_it_lasts(self, store: CheckpointStore) -> None:
        """In parts that make up the whole."""
        await asyncio.gather(*(store.save_checkpoint(make_state(f"{n:03}", created_at=float(n))) for n in range(250)))
        parts: list[int] = []
        assert await store.trim_per_workflow(200, on_deleted=parts.append) == 50
        assert sum(parts) == 50
        parts.clear()
        assert await store.cleanup_expired(60, on_deleted=parts.append) == 200
        assert sum(parts) == 200

    @pytest.mark.parametrize(
        "scope",
        [
            {"workflow_name": "w", "except_workflows": ["v"]},
            {"workflow_name": 1},
            {"except_workflows": "w"},
            {"except_workflows": [""]},
            {"except_workflows": None},
        ],
    )
    async def test_retention_refuses_a_scope_that_makes_no_sense(
        self, store: CheckpointStore, scope: dict[str, Any]
    ) -> None:
        """Nothing is deleted."""
        await store.save_checkpoint(make_state("1", created_at=1.0))
        await store.save_checkpoint(make_state("2", created_at=2.0))
        with pytest.raises(ValueError, match="workflow"):
            await store.cleanup_expired(60, **scope)
        with pytest.raises(ValueError, match="workflow"):
            await store.trim_per_workflow(1, **scope)
        assert len(await store.list_checkpoints()) == 2

    @pytest.mark.parametrize("number", [0, -1, 1.5, "2", None, True])
    async def test_trim_refuses_a_bad_number(self, store: CheckpointStore, number: Any) -> None:  # noqa: ANN401 - that is the point
        """Nothing is deleted."""
        await store.save_checkpoint(make_state())
        with pytest.raises(ValueError, match="max_per_workflow"):
            await store.trim_per_workflow(number)
        assert len(await store.list_checkpoints()) == 1

    async def test_retention_beside_saves_takes_only_what_is_old(self, store: CheckpointStore) -> None:
        """Concurrent saves neither fail nor vanish."""
        await asyncio.gather(*(store.save_checkpoint(make_state(f"old{n}", created_at=float(n))) for n in range(60)))
        saves = [store.save_checkpoint(make_state(f"new{n}", workflow_name="other")) for n in range(40)]
        retention = asyncio.gather(store.trim_per_workflow(50), store.cleanup_expired(60))
        await asyncio.gather(*saves)
        assert sum(await retention) == 60
        assert {one.checkpoint_id for one in await store.list_checkpoints()} == {f"new{n}" for n in range(40)}

    # --- runs

    async def test_delete_run_takes_all_of_a_run_and_nothing_else(self, store: CheckpointStore) -> None:
        """Pinned, waiting and leased ones, too; more than any batch holds."""
        states = [make_state(f"{n:04}", created_at=float(n), run_id=f"r{n % 2}") for n in range(1300)]
        await asyncio.gather(*map(store.save_checkpoint, states))
        await store.save_checkpoint(make_state("none", created_at=5000.0))
        await store.save_checkpoint(make_state("held", run_id="r0"), owner="me", lease_seconds=60)
        await store.save_checkpoint(make_state("waits", run_id="r0", paused_block_id="b"))
        await store.pin_checkpoint("0000")
        assert await store.delete_run("r0") == 652
        assert await store.delete_run("r0") == 0
        assert {one.run_id for one in await store.list_checkpoints()} == {"r1", None}
        assert len(await store.list_checkpoints()) == 651

    async def test_whoever_works_on_a_deleted_run_is_told(self, store: CheckpointStore) -> None:
        """By the next save and the next renewal, and nothing of the run comes back."""
        await store.save_checkpoint(make_state("1", run_id="r"), owner="me", lease_seconds=60)
        await store.save_checkpoint(make_state("2", run_id="r"), follows="1", owner="me", lease_seconds=60)
        assert await store.delete_run("r") == 2
        for call in (
            store.save_checkpoint(make_state("3", run_id="r"), follows="2", owner="me", lease_seconds=60),
            store.save_checkpoint(make_state("2", run_id="r"), follows="1", owner="me", lease_seconds=60),
            store.renew_lease("2", "me"),
        ):
            with pytest.raises(LeaseLostError):
                await call
        assert await store.list_checkpoints() == []

    async def test_a_run_that_goes_on_while_it_is_deleted_ends(self, store: CheckpointStore) -> None:
        """Whenever its saves come."""
        await asyncio.gather(
            *(store.save_checkpoint(make_state(f"old{n}", created_at=float(n), run_id="r")) for n in range(300))
        )
        await store.save_checkpoint(make_state("0", run_id="r"), owner="me", lease_seconds=60)

        async def go_on() -> int:
            for n in range(1, 10_000):
                try:
                    state = make_state(f"{n}", run_id="r")
                    await store.save_checkpoint(state, follows=f"{n - 1}", owner="me", lease_seconds=60)
                except LeaseLostError:
                    return n
                await asyncio.sleep(0)
            raise AssertionError("the run was not ended")

        runner = asyncio.create_task(go_on())
        await asyncio.sleep(0.02)
        deleted = await store.delete_run("r")
        assert deleted == 300 + await runner
        assert await store.list_checkpoints() == []

    # --- what retention leaves alone

    async def test_retention_leaves_pinned_ones_alone(self, store: CheckpointStore) -> None:
        """Until they are no longer; they use up no slot."""
        for n in range(4):
            await store.save_checkpoint(make_state(f"{n}", created_at=float(n)))
        assert await store.pin_checkpoint("0") is True
        assert await store.pin_checkpoint("3", pinned=True) is True
        assert await store.pin_checkpoint("absent") is False
        assert [one.checkpoint_id for one in await store.list_checkpoints() if one.pinned] == ["3", "0"]
        assert await store.trim_per_workflow(1) == 1
        assert await store.cleanup_expired(60) == 1
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == ["3", "0"]
        assert await store.pin_checkpoint("0", pinned=False) is True
        assert await store.cleanup_expired(60) == 1

    async def test_retention_leaves_leased_ones_alone(self, store: CheckpointStore) -> None:
        """Of any status; they use up no slot. Their history goes."""
        for n, status in enumerate(("completed", "running", "failed")):
            await store.save_checkpoint(
                make_state(f"held {status}", created_at=float(n), status=status), owner="me", lease_seconds=60
            )
        await store.save_checkpoint(make_state("paused", created_at=1.0, paused_block_id="b"))
        await store.claim_checkpoint("paused", "me", 60)
        await store.save_checkpoint(make_state("history", created_at=0.5), owner="me", lease_seconds=60)
        await store.save_checkpoint(make_state("head", created_at=9.0), follows="history", owner="me", lease_seconds=60)
        await store.save_checkpoint(make_state("plain", created_at=0.2))
        assert await store.trim_per_workflow(1, keep_paused=False) == 1
        assert await store.cleanup_expired(60, keep_paused=False) == 1
        assert {one.checkpoint_id for one in await store.list_checkpoints()} == {
            "held completed",
            "held running",
            "held failed",
            "paused",
            "head",
        }

    async def test_the_age_of_what_was_leased_counts_from_the_end_of_the_lease(self, store: CheckpointStore) -> None:
        """Not from when it was saved; of an end that was saved without a lease, from then."""
        await store.save_checkpoint(make_state("held", created_at=1.0, status="failed"), owner="me", lease_seconds=60)
        await store.release_claim("held", "me")
        await store.save_checkpoint(make_state("ended", created_at=1.0, status="failed"), owner="me", lease_seconds=60)
        await store.save_checkpoint(make_state("ended", created_at=1.0, status="failed"), owner="me")
        await store.save_checkpoint(make_state("plain", created_at=1.0))
        assert await store.cleanup_expired(60) == 2
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == ["held"]
        await run_out()
        assert await store.cleanup_expired(0) == 1

    async def test_no_age_makes_an_end_of_an_abandoned_run(self, store: CheckpointStore) -> None:
        """A clock that jumps ahead makes all runs look abandoned long ago. Their history goes, and so do ends."""
        for n, ends in enumerate(("released", "ran out")):
            await store.save_checkpoint(make_state(f"{n}", created_at=1.0), owner="me", lease_seconds=60)
            seconds = MOMENT if ends == "ran out" else 60
            state = make_state(ends, created_at=2.0)
            await store.save_checkpoint(state, follows=f"{n}", owner="me", lease_seconds=seconds)
        await store.release_claim("released", "me")
        await run_out()
        assert await store.cleanup_expired(0, keep_paused=False) == 2
        assert {one.checkpoint_id for one in await store.list_abandoned()} == {"released", "ran out"}
        await store.save_checkpoint(make_state("end", created_at=3.0, status="cancelled"), follows="ran out")
        assert await store.cleanup_expired(0) == 2
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == ["released"]

    async def test_trim_leaves_abandoned_runs_to_be_recovered(self, store: CheckpointStore) -> None:
        """Their heads are kept besides; of other heads, and of history, the newest are kept."""
        for n in range(3):
            state = make_state(f"abandoned {n}", created_at=float(n))
            await store.save_checkpoint(state, owner="me", lease_seconds=60)
            await store.release_claim(f"abandoned {n}", "me")
        for n in range(3):
            await store.save_checkpoint(make_state(f"{n}", created_at=10.0 + n), follows=f"{n - 1}" if n else None)
        assert await store.trim_per_workflow(1) == 2
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == [
            "2",
            "abandoned 2",
            "abandoned 1",
            "abandoned 0",
        ]
        assert len(await store.list_abandoned()) == 3
