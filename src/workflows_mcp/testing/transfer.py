"""What is read with its place and written so: all that travels from one store to another."""

import asyncio
import dataclasses
import os
import time
from typing import Any

import pytest

from workflows_mcp.engine.checkpoint import CheckpointMetadata
from workflows_mcp.engine.checkpoint_store import CheckpointStore, InMemoryCheckpointStore
from workflows_mcp.engine.filters import CheckpointFilter
from workflows_mcp.engine.stored import StoredCheckpoint, Writing
from workflows_mcp.errors import CheckpointConflictError, CheckpointEncodeError, LeaseLostError
from workflows_mcp.testing.values import EXACT_VALUES, assert_same, make_state

__all__ = ["TransferContract", "fill", "view"]


async def fill(store: CheckpointStore) -> None:
    """Save a checkpoint of each kind: history, heads, waiting, pinned, leased, let go of, ended, and in no run."""
    await store.save_checkpoint(make_state("done-1", run_id="done", created_at=1.0), owner="a", lease_seconds=60)
    done = make_state("done-2", run_id="done", created_at=2.0, status="completed")
    await store.save_checkpoint(done, follows="done-1", owner="a")
    await store.save_checkpoint(make_state("held", run_id="held", created_at=3.0), owner="b", lease_seconds=60)
    await store.save_checkpoint(make_state("free", run_id="free", created_at=4.0), owner="c", lease_seconds=60)
    await store.release_claim("free", "c")
    question = {"paused_block_id": "ask", "pause_prompt": "Go\0on?", "pause_metadata": {"choices": ["yes"]}}
    await store.save_checkpoint(make_state("answered", run_id="asked", created_at=5.0, **question))
    await store.save_checkpoint(make_state("asked", run_id="asked", created_at=6.0, **question), follows="answered")
    await store.save_checkpoint(make_state("alone", workflow_name="ü", created_at=7.25, context=EXACT_VALUES))
    await store.pin_checkpoint("alone")
    await store.pin_checkpoint("done-1")


def view(metadata: CheckpointMetadata) -> CheckpointMetadata:
    """What must be the same in another store: all but sizes, and when a lease ended that was under way."""
    was_leased = None if metadata.lease_expires_at is None else 0.0
    return dataclasses.replace(metadata, lease_expires_at=was_leased, stored_bytes=0, encoding="")


async def _all(store: CheckpointStore) -> list[StoredCheckpoint]:
    return [one async for one in store.iter_stored()]


class TransferContract:
    """What is read with its place and written so: all that travels from one store to another."""

    async def test_what_is_read_and_written_elsewhere_is_the_same_there(self, store: CheckpointStore) -> None:
        """Both ways: listings, states, pins, history, what waits, and which runs can be recovered."""
        origin, again = InMemoryCheckpointStore(), InMemoryCheckpointStore()
        await fill(origin)
        travelling = await _all(origin)
        assert set((await store.write_stored(travelling)).values()) == {Writing.WRITTEN}
        await again.write_stored(await _all(store))
        listed = [view(one) for one in await origin.list_checkpoints()]
        for other in (store, again):
            assert [view(one) for one in await other.list_checkpoints()] == listed
            assert [one.checkpoint_id for one in await other.list_checkpoints(is_paused=True)] == ["asked"]
            for one in travelling:
                assert_same(await other.load_checkpoint(one.checkpoint_id), one.state)
            # The lease that was under way has ended on the way.
            assert {one.checkpoint_id for one in await other.list_abandoned()} == {"free", "held"}
            assert await other.trim_per_workflow(1, keep_paused=False) == 2
            assert await other.load_checkpoint("done-1") is not None

    async def test_nobody_holds_what_was_written(self, store: CheckpointStore) -> None:
        """It can be claimed at once, and whoever held it elsewhere has no say here, nor has anybody over history."""
        origin = InMemoryCheckpointStore()
        await fill(origin)
        await store.write_stored(await _all(origin))
        with pytest.raises(LeaseLostError):
            await store.renew_lease("held", "b")
        with pytest.raises(LeaseLostError):
            await store.save_checkpoint(make_state("next", run_id="held"), follows="held", owner="b", lease_seconds=9)
        assert_same(await store.claim_checkpoint("held", "new"), (await origin.load_checkpoint("held")) or make_state())
        await store.save_checkpoint(make_state("next", run_id="held"), follows="held", owner="new", lease_seconds=9)
        with pytest.raises(LeaseLostError):
            await store.save_checkpoint(make_state("other"), follows="answered")

    async def test_stored_ones_are_streamed_newest_first_by_filter(self, store: CheckpointStore) -> None:
        """More than any page holds."""
        states = [make_state(f"{n:04}", created_at=float(n // 2), workflow_name=f"w{n % 2}") for n in range(1100)]
        await store.write_stored([StoredCheckpoint(one, superseded=one.created_at < 5) for one in states])
        found = [one.checkpoint_id async for one in store.iter_stored(CheckpointFilter("w1", heads_only=True))]
        assert found == [f"{n:04}" for n in range(1099, 9, -2)]
        assert await store.count_stored(CheckpointFilter("w1", heads_only=True)) in {545, None}
        assert len(await _all(store)) == 1100

    async def test_those_asked_for_are_loaded_with_their_places(self, store: CheckpointStore) -> None:
        """What is absent is left out; a lease that goes on elsewhere has ended in what was loaded."""
        await fill(store)
        found = await store.load_stored(["done-1", "held", "absent", "alone"])
        assert set(found) == {"done-1", "held", "alone"}
        assert (found["done-1"].superseded, found["done-1"].pinned, found["alone"].pinned) == (True, True, True)
        assert found["done-1"].lease_ended_at is None
        ended = found["held"].lease_ended_at
        assert ended is not None
        assert ended <= time.time()
        assert await store.load_stored([]) == {}

    async def test_writing_again_changes_nothing(self, store: CheckpointStore) -> None:
        """Whatever is to be done about conflicts: the same state is none."""
        await fill(store)
        before, kept = await store.list_checkpoints(), await _all(store)
        for on_conflict in ("fail", "skip", "replace"):
            verdicts = await store.write_stored(kept, on_conflict=on_conflict)
            assert set(verdicts.values()) == {Writing.PRESENT}
        assert await store.list_checkpoints() == before

    @pytest.mark.parametrize("size", [10, 800_000])
    async def test_another_state_is_a_conflict_and_nothing_is_written(self, store: CheckpointStore, size: int) -> None:
        """Not the others of its batch, either, however large they are. A value of another type is another state."""
        await store.save_checkpoint(make_state("two", created_at=2.0, context={"n": 1}))
        noise = os.urandom(size // 2).hex()
        batch = [
            *(StoredCheckpoint(make_state(name, created_at=1.0, context={"noise": noise})) for name in ("a", "b")),
            StoredCheckpoint(make_state("two", created_at=2.0, context={"n": 1.0})),
        ]
        with pytest.raises(CheckpointConflictError, match="'two' is there already"):
            await store.write_stored(batch)
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == ["two"]

    async def test_skipped_is_left_as_it_is(self, store: CheckpointStore) -> None:
        """State and place; the others of the batch are written."""
        here = make_state("two", created_at=2.0, context={"here": 1})
        await store.save_checkpoint(here)
        there = StoredCheckpoint(make_state("two", created_at=3.0), pinned=True, superseded=True)
        verdicts = await store.write_stored(
            [StoredCheckpoint(make_state("one", created_at=1.0)), there], on_conflict="skip"
        )
        assert verdicts == {"one": Writing.WRITTEN, "two": Writing.PARTED}
        assert_same(await store.load_checkpoint("two"), here)
        two, one = await store.list_checkpoints()
        assert (two.pinned, two.superseded, one.checkpoint_id) == (False, False, "one")
        head = StoredCheckpoint(there.state)
        assert await store.write_stored([head], on_conflict="skip") == {"two": Writing.SKIPPED}

    async def test_replacing_leaves_leases_alone_and_keeps_history(self, store: CheckpointStore) -> None:
        """As any save does; the pin is what it is elsewhere."""
        await fill(store)
        new = [
            StoredCheckpoint(make_state(name, run_id=name, created_at=9.0, context={"new": True}), pinned=pinned)
            for name, pinned in (("done-1", False), ("held", True), ("fresh", True))
        ]
        verdicts = await store.write_stored(new, on_conflict="replace")
        assert verdicts == {"done-1": Writing.REPLACED, "held": Writing.REPLACED, "fresh": Writing.WRITTEN}
        found = await store.load_stored(verdicts)
        assert all(found[one.checkpoint_id].plain == one.plain for one in new)
        assert [found[name].superseded for name in ("done-1", "held", "fresh")] == [True, False, False]
        assert [found[name].pinned for name in ("done-1", "held", "fresh")] == [False, True, True]
        await store.renew_lease("held", "b")

    async def test_replacing_sets_the_pin_of_the_same_state(self, store: CheckpointStore) -> None:
        """The place is replaced, too; otherwise a pin is this store's own."""
        state = make_state("one")
        await store.save_checkpoint(state)
        assert await store.write_stored([StoredCheckpoint(state, pinned=True)]) == {"one": Writing.PRESENT}
        assert not (await store.list_checkpoints())[0].pinned
        await store.write_stored([StoredCheckpoint(state, pinned=True)], on_conflict="replace")
        assert (await store.list_checkpoints())[0].pinned

    async def test_what_has_become_history_elsewhere_becomes_history(self, store: CheckpointStore) -> None:
        """Lest its run goes on from two heads; unless somebody works on it here. A head makes no head of history.

        A lease that ran out is nobody's work: whoever had it may be long dead.
        """
        ask = {"paused_block_id": "ask"}
        states = [make_state(name, created_at=1.0, **ask) for name in ("free", "claimed", "left", "gone")]
        await store.write_stored([StoredCheckpoint(one, superseded=one.checkpoint_id == "gone") for one in states])
        await store.claim_checkpoint("claimed", "me")
        await store.claim_checkpoint("left", "dead", 0.001)
        await asyncio.sleep(0.01)
        later = [StoredCheckpoint(one, superseded=one.checkpoint_id != "gone") for one in states]
        verdicts = await store.write_stored(later, on_conflict="skip")
        assert verdicts.pop("claimed") is Writing.HELD
        assert set(verdicts.values()) == {Writing.PRESENT}
        listed = {one.checkpoint_id: (one.superseded, one.is_paused) for one in await store.list_checkpoints()}
        history = (True, False)
        assert listed == {"free": history, "left": history, "claimed": (False, True), "gone": history}

    async def test_what_is_replaced_by_history_is_history(self, store: CheckpointStore) -> None:
        """Also where somebody has a lease on it, who loses it, and does not go on from there."""
        await store.save_checkpoint(make_state("one"), owner="me", lease_seconds=60)
        new = StoredCheckpoint(make_state("one", context={"new": 1}), superseded=True)
        assert await store.write_stored([new], on_conflict="replace") == {"one": Writing.REPLACED}
        assert [one.superseded for one in await store.list_checkpoints()] == [True]
        with pytest.raises(LeaseLostError):
            await store.save_checkpoint(make_state("two"), follows="one", owner="me", lease_seconds=60)

    async def test_no_lease_ends_in_times_to_come(self, store: CheckpointStore) -> None:
        """Or retention would never take it, and nobody would recover it."""
        await store.write_stored([StoredCheckpoint(make_state("one"), lease_ended_at=time.time() + 10**9)])
        [metadata] = await store.list_checkpoints()
        assert metadata.lease_expires_at is not None
        assert metadata.lease_expires_at <= time.time()

    @pytest.mark.parametrize("what", ["twice", "no JSON", "bad name", "on_conflict"])
    async def test_a_bad_batch_is_refused(self, store: CheckpointStore, what: str) -> None:
        """Before anything of it is written."""
        good = StoredCheckpoint(make_state("good"))
        arguments: dict[str, tuple[list[StoredCheckpoint], Any, type[Exception]]] = {
            "twice": ([good, good], "fail", ValueError),
            "no JSON": ([good, StoredCheckpoint(make_state("x", context={"a": {1}}))], "fail", CheckpointEncodeError),
            "bad name": ([good, StoredCheckpoint(make_state("x", workflow_name=""))], "fail", ValueError),
            "on_conflict": ([good], "merge", ValueError),
        }
        batch, on_conflict, error = arguments[what]
        with pytest.raises(error):
            await store.write_stored(batch, on_conflict=on_conflict)
        assert await store.list_checkpoints() == []

    async def test_what_is_saved_meanwhile_is_not_overwritten(self, store: CheckpointStore) -> None:
        """Skipping, beside savers: each checkpoint is one of the two, whole, and whoever saved has the last word."""
        names = [f"{n:03}" for n in range(200)]
        given = [StoredCheckpoint(make_state(name, created_at=1.0), pinned=True) for name in names]
        saves = [store.save_checkpoint(make_state(name, created_at=2.0)) for name in names[::3]]
        batches = [store.write_stored(given[n : n + 20], on_conflict="skip") for n in range(0, 200, 20)]
        await asyncio.gather(
            *(one for pair in zip(saves, batches, strict=False) for one in pair), *saves[len(batches) :]
        )
        found = {one.checkpoint_id: one.created_at for one in await store.list_checkpoints()}
        assert found == {name: 2.0 if name in names[::3] else 1.0 for name in names}
