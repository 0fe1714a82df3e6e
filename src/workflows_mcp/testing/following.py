"""One checkpoint follows another: what becomes of the two, and who may not."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.errors import CheckpointTooLargeError, LeaseLostError
from workflows_mcp.testing.values import BAD_NAMES, assert_same, make_state

__all__ = ["FollowingContract", "metadata_of", "raised"]


async def metadata_of(store: CheckpointStore, checkpoint_id: str) -> CheckpointMetadata:
    """A checkpoint as it is listed."""
    [found] = [one for one in await store.list_checkpoints() if one.checkpoint_id == checkpoint_id]
    return found


def raised(results: Sequence[object]) -> list[type]:
    """The types of the errors among some results, in their order."""
    return [type(result) for result in results if isinstance(result, BaseException)]


class FollowingContract:
    """One checkpoint follows another: what becomes of the two, and who may not."""

    async def test_what_is_followed_is_history(self, store: CheckpointStore) -> None:
        """The last one is the head; both load as they were saved."""
        first, second = make_state("1", created_at=1.0, run_id="r"), make_state("2", created_at=2.0, run_id="r")
        await store.save_checkpoint(first)
        assert await store.save_checkpoint(second, follows="1") == "2"
        assert [(one.checkpoint_id, one.superseded) for one in await store.list_checkpoints()] == [
            ("2", False),
            ("1", True),
        ]
        assert [one.checkpoint_id for one in await store.list_checkpoints(heads_only=True)] == ["2"]
        assert_same(await store.load_checkpoint("1"), first)
        assert_same(await store.load_checkpoint("2"), second)

    async def test_a_pause_that_was_followed_waits_no_more(self, store: CheckpointStore) -> None:
        """In no listing, count or round of retention; its status and its state stay."""
        pause = make_state("1", created_at=1.0, paused_block_id="b", pause_prompt="Go on?")
        await store.save_checkpoint(pause)
        await store.save_checkpoint(make_state("2", created_at=2.0), follows="1")
        assert await store.list_checkpoints(is_paused=True) == []
        assert [one.checkpoint_id for one in await store.list_checkpoints(is_paused=False)] == ["2", "1"]
        assert [one.checkpoint_id for one in await store.list_checkpoints(status="paused")] == ["1"]
        assert (await store.get_stats()).paused_checkpoints == 0
        assert_same(await store.load_checkpoint("1"), pause)
        assert await store.cleanup_expired(60) == 2

    async def test_history_that_is_saved_again_stays_history(self, store: CheckpointStore) -> None:
        """Whole, but neither a head nor waiting again."""
        await store.save_checkpoint(make_state("1"))
        await store.save_checkpoint(make_state("2"), follows="1")
        again = make_state("1", paused_block_id="b", context={"n": 2})
        await store.save_checkpoint(again)
        metadata = await metadata_of(store, "1")
        assert (metadata.superseded, metadata.is_paused, str(metadata.status)) == (True, False, "paused")
        assert_same(await store.load_checkpoint("1"), again)
        with pytest.raises(LeaseLostError):
            await store.save_checkpoint(make_state("3"), follows="1")

    async def test_a_checkpoint_is_followed_once(self, store: CheckpointStore) -> None:
        """The second one is told to stop, and was not written."""
        await store.save_checkpoint(make_state("1"))
        await store.save_checkpoint(make_state("2"), follows="1")
        with pytest.raises(LeaseLostError, match="'3' was not saved: '1'"):
            await store.save_checkpoint(make_state("3"), follows="1")
        assert await store.load_checkpoint("3") is None
        assert (await metadata_of(store, "2")).superseded is False

    async def test_of_many_followers_at_once_one_is_saved(self, store: CheckpointStore) -> None:
        """Whoever is first."""
        await store.save_checkpoint(make_state("0"))
        names = [f"{n}" for n in range(1, 9)]
        results: list[Any] = await asyncio.gather(
            *(store.save_checkpoint(make_state(name), follows="0") for name in names), return_exceptions=True
        )
        assert raised(results) == [LeaseLostError] * 7
        [winner] = [result for result in results if isinstance(result, str)]
        assert [one.checkpoint_id for one in await store.list_checkpoints(heads_only=True)] == [winner]
        assert len(await store.list_checkpoints()) == 2

    async def test_nothing_follows_what_is_absent(self, store: CheckpointStore) -> None:
        """Never saved, or deleted."""
        await store.save_checkpoint(make_state("1"))
        await store.delete_checkpoint("1")
        for follows in ("1", "never"):
            for owner in (None, "me"):
                with pytest.raises(LeaseLostError):
                    await store.save_checkpoint(make_state("2"), follows=follows, owner=owner)
        assert await store.list_checkpoints() == []

    async def test_repeating_a_save_that_follows_succeeds(self, store: CheckpointStore) -> None:
        """Also when it was followed itself, or the one that it follows was deleted meanwhile."""
        await store.save_checkpoint(make_state("1"), owner="me", lease_seconds=60)
        options: dict[str, Any] = {"follows": "1", "owner": "me", "lease_seconds": 60}
        for n in range(2):
            again = make_state("2", context={"n": n})
            await store.save_checkpoint(again, **options)
            assert_same(await store.load_checkpoint("2"), again)
        await store.delete_checkpoint("1")
        await store.save_checkpoint(make_state("2"), **options)
        await store.save_checkpoint(make_state("3"), follows="2", owner="me", lease_seconds=60)
        await store.save_checkpoint(make_state("2"), **options)
        assert (await metadata_of(store, "2")).superseded is True
        assert (await metadata_of(store, "3")).superseded is False

    async def test_repeating_a_save_without_an_owner_succeeds(self, store: CheckpointStore) -> None:
        """As is done to cancel a run from outside."""
        await store.save_checkpoint(make_state("1"))
        for _ in range(2):
            await store.save_checkpoint(make_state("2", status="cancelled"), follows="1")
        assert [one.checkpoint_id for one in await store.list_checkpoints(heads_only=True)] == ["2"]

    async def test_what_is_there_already_may_follow(self, store: CheckpointStore) -> None:
        """It is replaced whole, and what it follows becomes history."""
        await store.save_checkpoint(make_state("1"))
        await store.save_checkpoint(make_state("2", context={"old": 1}))
        await store.pin_checkpoint("2")
        new = make_state("2", context={"new": 2})
        await store.save_checkpoint(new, follows="1")
        assert_same(await store.load_checkpoint("2"), new)
        assert (await metadata_of(store, "2")).pinned is True
        assert (await metadata_of(store, "1")).superseded is True

    async def test_a_checkpoint_follows_one_of_any_run(self, store: CheckpointStore) -> None:
        """Such as one that belongs to no run yet."""
        await store.save_checkpoint(make_state("1"))
        await store.save_checkpoint(make_state("2", run_id="r"), follows="1")
        assert [one.checkpoint_id for one in await store.list_checkpoints(heads_only=True)] == ["2"]

    async def test_a_save_that_is_refused_changes_nothing(self, store: CheckpointStore) -> None:
        """Neither what it would have followed nor what had its id."""
        before = make_state("1")
        await store.save_checkpoint(before, owner="me", lease_seconds=60)
        await store.save_checkpoint(make_state("other"), owner="other", lease_seconds=60)
        listed = await store.list_checkpoints()
        refused: list[tuple[CheckpointState, dict[str, Any]]] = [
            (make_state("2"), {"owner": "thief", "lease_seconds": 5}),
            (make_state("other", context={"n": 1}), {"owner": "me", "lease_seconds": 5}),
        ]
        for state, options in refused:
            with pytest.raises(LeaseLostError):
                await store.save_checkpoint(state, follows="1", **options)
        with pytest.raises(CheckpointTooLargeError):
            await store.save_checkpoint(make_state("2"), follows="1", owner="me", max_bytes=1)
        assert await store.list_checkpoints() == listed

    @pytest.mark.parametrize("what", BAD_NAMES)
    async def test_a_bad_id_or_owner_is_a_value_error(self, store: CheckpointStore, what: str) -> None:
        """Of what is followed, and of whoever saves."""
        name = BAD_NAMES[what]
        if name is None:
            return
        for field in ("follows", "owner"):
            with pytest.raises(ValueError, match=field):
                await store.save_checkpoint(make_state(), **{field: name})
        assert await store.list_checkpoints() == []

    async def test_what_makes_no_sense_is_a_value_error(self, store: CheckpointStore) -> None:
        """To follow oneself, and to lease to nobody."""
        await store.save_checkpoint(make_state("1"))
        with pytest.raises(ValueError, match="follows"):
            await store.save_checkpoint(make_state("1"), follows="1")
        with pytest.raises(ValueError, match="lease_seconds needs an owner"):
            await store.save_checkpoint(make_state("2"), lease_seconds=5)
        assert len(await store.list_checkpoints()) == 1
