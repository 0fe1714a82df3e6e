"""Who holds a checkpoint: claims, renewals, releases, and the saves of those who lost it."""

import asyncio
import math
import time
from typing import Any

import pytest

from workflows_mcp.engine.checkpoint import CheckpointStatus
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.errors import CheckpointAlreadyClaimedError, CheckpointNotFoundError, LeaseLostError
from workflows_mcp.testing.following import metadata_of, raised
from workflows_mcp.testing.values import BAD_NAMES, assert_same, make_state

__all__ = ["MOMENT", "LeaseContract", "run_out"]

MOMENT = 0.005
"""A lease that has run out after `run_out`; in seconds."""


async def run_out() -> None:
    """Wait until a lease of a `MOMENT` has run out."""
    await asyncio.sleep(MOMENT * 4)


class LeaseContract:
    """Who holds a checkpoint: claims, renewals, releases, and the saves of those who lost it."""

    # --- claims

    async def test_a_claim_gives_the_state_and_a_lease(self, store: CheckpointStore) -> None:
        """For as long as was asked."""
        state = make_state("1", paused_block_id="b", context={"n": [1, 2.5]})
        await store.save_checkpoint(state)
        before = time.time()
        assert_same(await store.claim_checkpoint("1", "me", 60), state)
        metadata = await metadata_of(store, "1")
        assert metadata.lease_expires_at == pytest.approx(before + 60, abs=5)
        assert metadata.is_paused

    async def test_of_many_claims_at_once_one_wins(self, store: CheckpointStore) -> None:
        """The others are told that somebody else has it."""
        state = make_state("1")
        await store.save_checkpoint(state)
        results = await asyncio.gather(*(store.claim_checkpoint("1", f"{n}") for n in range(8)), return_exceptions=True)
        assert raised(results) == [CheckpointAlreadyClaimedError] * 7
        assert [result for result in results if not isinstance(result, BaseException)] == [state]

    async def test_what_is_held_is_not_claimed_again(self, store: CheckpointStore) -> None:
        """Not even by the one who holds it; whether by a claim or since it was saved so."""
        await store.save_checkpoint(make_state("1"))
        await store.claim_checkpoint("1", "me", 60)
        await store.save_checkpoint(make_state("2"), owner="me", lease_seconds=60)
        for name in ("1", "2"):
            for owner in ("me", "other"):
                with pytest.raises(CheckpointAlreadyClaimedError, match=f"'{name}' is claimed"):
                    await store.claim_checkpoint(name, owner)

    async def test_what_ran_out_is_claimed_by_the_next(self, store: CheckpointStore) -> None:
        """The one before has lost it for good."""
        await store.save_checkpoint(make_state("1"), owner="first", lease_seconds=MOMENT)
        await run_out()
        await store.claim_checkpoint("1", "second", MOMENT)
        await run_out()
        for call in (
            store.renew_lease("1", "first"),
            store.release_claim("1", "first"),
            store.save_checkpoint(make_state("2"), follows="1", owner="first"),
            store.save_checkpoint(make_state("1"), owner="first", lease_seconds=5),
        ):
            with pytest.raises(LeaseLostError):
                await call
        await store.save_checkpoint(make_state("2"), follows="1", owner="second")

    @pytest.mark.parametrize("status", CheckpointStatus)
    async def test_a_head_of_any_status_is_claimed(self, store: CheckpointStore, status: CheckpointStatus) -> None:
        """Also one that never had a lease, and one that was saved without by its last owner."""
        paused = "b" if status is CheckpointStatus.PAUSED else None
        for name, owner in (("1", None), ("2", "last")):
            state = make_state(name, status=status, paused_block_id=paused)
            await store.save_checkpoint(state, owner=owner)
            assert await store.claim_checkpoint(name, "me") == state

    async def test_what_was_followed_is_not_claimed(self, store: CheckpointStore) -> None:
        """The message says that the run has gone on."""
        await store.save_checkpoint(make_state("1"))
        await store.save_checkpoint(make_state("2"), follows="1")
        with pytest.raises(CheckpointAlreadyClaimedError, match="run has gone on"):
            await store.claim_checkpoint("1", "me")

    async def test_what_is_absent_is_not_claimed(self, store: CheckpointStore) -> None:
        """And that is another error."""
        with pytest.raises(CheckpointNotFoundError, match="'absent'"):
            await store.claim_checkpoint("absent", "me")

    # --- saves under a lease

    async def test_a_run_is_saved_under_its_lease(self, store: CheckpointStore) -> None:
        """Each checkpoint takes the lease over from the one before; the last has none."""
        await store.save_checkpoint(make_state("0"), owner="me", lease_seconds=60)
        for n in range(1, 4):
            await store.save_checkpoint(make_state(f"{n}"), follows=f"{n - 1}", owner="me", lease_seconds=60)
        assert (await metadata_of(store, "3")).lease_expires_at is not None
        await store.save_checkpoint(make_state("4", status="completed"), follows="3", owner="me")
        assert [one.checkpoint_id for one in await store.list_checkpoints(heads_only=True)] == ["4"]
        assert [one.lease_expires_at for one in await store.list_checkpoints()] == [None] * 5

    async def test_nobody_saves_over_the_head_of_another(self, store: CheckpointStore) -> None:
        """To two processes that begin one run, both with the same first id, one wins."""
        results: list[Any] = await asyncio.gather(
            *(store.save_checkpoint(make_state("1"), owner=f"{n}", lease_seconds=60) for n in range(8)),
            return_exceptions=True,
        )
        assert raised(results) == [LeaseLostError] * 7
        winner = [isinstance(result, str) for result in results].index(True)
        await store.save_checkpoint(make_state("1"), owner=f"{winner}", lease_seconds=60)
        with pytest.raises(LeaseLostError, match="there already"):
            await store.save_checkpoint(make_state("1"), owner="late", lease_seconds=60)

    async def test_nobody_begins_what_is_there_without_a_lease(self, store: CheckpointStore) -> None:
        """It may belong to somebody who knows of no leases."""
        state = make_state("1")
        await store.save_checkpoint(state)
        with pytest.raises(LeaseLostError):
            await store.save_checkpoint(make_state("1", context={"n": 1}), owner="me", lease_seconds=60)
        assert_same(await store.load_checkpoint("1"), state)

    async def test_nobody_follows_what_was_never_leased_to_them(self, store: CheckpointStore) -> None:
        """Neither what has no lease nor what another holds, nor what they saved without one."""
        await store.save_checkpoint(make_state("plain"))
        await store.save_checkpoint(make_state("held"), owner="other", lease_seconds=60)
        await store.save_checkpoint(make_state("ended", status="completed"), owner="me")
        for name in ("plain", "held", "ended"):
            with pytest.raises(LeaseLostError, match=f"'{name}'"):
                await store.save_checkpoint(make_state("2"), follows=name, owner="me", lease_seconds=60)
        assert await store.load_checkpoint("2") is None

    async def test_nobody_takes_the_id_of_what_somebody_else_saved(self, store: CheckpointStore) -> None:
        """The error says that it may be no more than that."""
        await store.save_checkpoint(make_state("2", run_id="other"))
        await store.save_checkpoint(make_state("1", run_id="own"), owner="me", lease_seconds=60)
        with pytest.raises(LeaseLostError, match="a checkpoint '2' is there already that somebody else saved"):
            await store.save_checkpoint(make_state("2", run_id="own"), follows="1", owner="me", lease_seconds=60)
        await store.save_checkpoint(make_state("3", run_id="own"), follows="1", owner="me", lease_seconds=60)

    async def test_a_lease_that_ran_out_and_was_not_taken_still_counts(self, store: CheckpointStore) -> None:
        """A process that was stopped for a while goes on, if nobody else did."""
        await store.save_checkpoint(make_state("1"), owner="me", lease_seconds=MOMENT)
        await run_out()
        await store.save_checkpoint(make_state("2"), follows="1", owner="me", lease_seconds=MOMENT)
        await run_out()
        await store.renew_lease("2", "me", 60)
        with pytest.raises(CheckpointAlreadyClaimedError):
            await store.claim_checkpoint("2", "other")

    async def test_saving_without_an_owner_ends_anybodys_run(self, store: CheckpointStore) -> None:
        """That is how a run is cancelled from outside: whoever works on it is told by the next save."""
        await store.save_checkpoint(make_state("1"), owner="me", lease_seconds=60)
        await store.save_checkpoint(make_state("end", status="cancelled"), follows="1")
        for owner in ("me", None):
            with pytest.raises(LeaseLostError):
                await store.save_checkpoint(make_state("2"), follows="1", owner=owner)
        with pytest.raises(LeaseLostError):
            await store.renew_lease("1", "me")
        assert [one.checkpoint_id for one in await store.list_checkpoints(heads_only=True)] == ["end"]

    async def test_a_save_without_an_owner_leaves_lease_and_pin_alone(self, store: CheckpointStore) -> None:
        """They belong to the checkpoint's place, not to its state."""
        await store.save_checkpoint(make_state("1"), owner="me", lease_seconds=60)
        await store.pin_checkpoint("1")
        before = await metadata_of(store, "1")
        await store.save_checkpoint(make_state("1", workflow_name="other"))
        after = await metadata_of(store, "1")
        assert (after.workflow_name, after.pinned, after.lease_expires_at) == ("other", True, before.lease_expires_at)
        await store.save_checkpoint(make_state("2"), follows="1", owner="me")

    async def test_a_save_of_the_owner_begins_the_lease_anew(self, store: CheckpointStore) -> None:
        """Or ends it."""
        await store.save_checkpoint(make_state("1"), owner="me", lease_seconds=MOMENT)
        await run_out()
        await store.save_checkpoint(make_state("1"), owner="me", lease_seconds=60)
        with pytest.raises(CheckpointAlreadyClaimedError):
            await store.claim_checkpoint("1", "other")
        for _ in range(2):
            await store.save_checkpoint(make_state("1", status="completed"), owner="me")
        assert (await metadata_of(store, "1")).lease_expires_at is None
        await store.claim_checkpoint("1", "other")

    # --- renewals and releases

    async def test_a_renewal_begins_the_lease_anew(self, store: CheckpointStore) -> None:
        """Any number of them at once."""
        names = [f"{n}" for n in range(20)]
        for name in names:
            await store.save_checkpoint(make_state(name), owner=f"owner of {name}", lease_seconds=MOMENT)
        await asyncio.gather(*(store.renew_lease(name, f"owner of {name}", 60) for name in names))
        await run_out()
        assert await store.list_abandoned() == []
        for name in names:
            with pytest.raises(CheckpointAlreadyClaimedError):
                await store.claim_checkpoint(name, "other")

    async def test_renewals_of_those_who_lost_fail_alone(self, store: CheckpointStore) -> None:
        """Each caller hears of its own lease."""
        for name in ("1", "2", "3", "4"):
            await store.save_checkpoint(make_state(name), owner="me", lease_seconds=60)
        await store.save_checkpoint(make_state("2b"), follows="2", owner="me", lease_seconds=60)
        await store.delete_checkpoint("3")
        pairs = [("1", "me"), ("1", "thief"), ("2", "me"), ("2b", "me"), ("3", "me"), ("4", "me"), ("4", "me")]
        results = await asyncio.gather(*(store.renew_lease(*pair) for pair in pairs), return_exceptions=True)
        lost = [pair for pair, result in zip(pairs, results, strict=True) if isinstance(result, LeaseLostError)]
        assert lost == [("1", "thief"), ("2", "me"), ("3", "me")]
        assert len(raised(results)) == 3

    async def test_a_release_frees_the_checkpoint_at_once(self, store: CheckpointStore) -> None:
        """And is final: the owner neither renews it nor saves any more. Twice is fine."""
        await store.save_checkpoint(make_state("1", paused_block_id="b"))
        await store.claim_checkpoint("1", "me", 60)
        await store.release_claim("1", "me")
        await store.release_claim("1", "me")
        for call in (
            store.renew_lease("1", "me"),
            store.save_checkpoint(make_state("2"), follows="1", owner="me"),
            store.save_checkpoint(make_state("1"), owner="me", lease_seconds=60),
        ):
            with pytest.raises(LeaseLostError):
                await call
        await store.claim_checkpoint("1", "other")
        with pytest.raises(LeaseLostError):
            await store.release_claim("1", "me")

    async def test_only_the_owner_renews_and_releases(self, store: CheckpointStore) -> None:
        """Nobody else, and nobody what is absent, was never leased, or is history."""
        await store.save_checkpoint(make_state("held"), owner="me", lease_seconds=60)
        await store.save_checkpoint(make_state("plain"))
        await store.save_checkpoint(make_state("old"), owner="other", lease_seconds=60)
        await store.save_checkpoint(make_state("new"), follows="old", owner="other", lease_seconds=60)
        for name in ("held", "plain", "old", "absent"):
            with pytest.raises(LeaseLostError, match=f"'{name}'"):
                await store.renew_lease(name, "other")
            with pytest.raises(LeaseLostError, match=f"'{name}'"):
                await store.release_claim(name, "other")
        await store.release_claim("held", "me")

    # --- abandoned runs

    async def test_abandoned_runs_are_listed_the_longest_abandoned_first(self, store: CheckpointStore) -> None:
        """Whether their leases ran out or were released."""
        for name, seconds in (("1", 60.0), ("2", MOMENT), ("3", 60.0), ("4", MOMENT)):
            await store.save_checkpoint(make_state(name), owner="me", lease_seconds=seconds)
            await run_out()
        await store.release_claim("1", "me")
        listed = await store.list_abandoned()
        assert [one.checkpoint_id for one in listed] == ["2", "4", "1"]
        ended = [one.lease_expires_at or math.inf for one in listed]
        assert ended == sorted(ended)
        assert ended[-1] <= time.time() + 1
        assert await store.list_abandoned(2) == listed[:2]
        assert await store.list_abandoned(0) == []

    async def test_only_running_heads_that_were_leased_are_abandoned(self, store: CheckpointStore) -> None:
        """Not ends, pauses, history, what is held, and what never was."""
        await store.save_checkpoint(make_state("never leased"))
        await store.save_checkpoint(make_state("saved without"), owner="me")
        await store.save_checkpoint(make_state("held"), owner="me", lease_seconds=60)
        await store.save_checkpoint(make_state("history"), owner="me", lease_seconds=MOMENT)
        await store.save_checkpoint(make_state("head"), follows="history", owner="me", lease_seconds=60)
        for status in ("completed", "failed", "cancelled"):
            await store.save_checkpoint(make_state(status, status=status), owner="me", lease_seconds=MOMENT)
        await store.save_checkpoint(make_state("paused", paused_block_id="b"), owner="me", lease_seconds=MOMENT)
        await run_out()
        assert await store.list_abandoned() == []
        await store.release_claim("head", "me")
        assert [one.checkpoint_id for one in await store.list_abandoned()] == ["head"]

    async def test_an_abandoned_run_that_is_claimed_is_not_abandoned_any_more(self, store: CheckpointStore) -> None:
        """Until the lease of that claim has ended, too."""
        await store.save_checkpoint(make_state("1"), owner="me", lease_seconds=60)
        await store.release_claim("1", "me")
        await store.claim_checkpoint("1", "other", MOMENT)
        await run_out()
        assert [one.checkpoint_id for one in await store.list_abandoned()] == ["1"]
        await store.claim_checkpoint("1", "third", 60)
        assert await store.list_abandoned() == []

    # --- arguments

    @pytest.mark.parametrize("what", BAD_NAMES)
    async def test_bad_names_of_leases_are_value_errors(self, store: CheckpointStore, what: str) -> None:
        """Of checkpoints and of owners."""
        name = BAD_NAMES[what]
        for call in (store.claim_checkpoint, store.renew_lease, store.release_claim):
            with pytest.raises(ValueError, match="checkpoint_id"):
                await call(name, "me")
            with pytest.raises(ValueError, match="owner"):
                await call("1", name)
        with pytest.raises(ValueError, match="checkpoint_id"):
            await store.pin_checkpoint(name)
        with pytest.raises(ValueError, match="run_id"):
            await store.delete_run(name)

    @pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, 10**400, 4e8, "30", None, True])
    async def test_a_bad_length_of_a_lease_is_a_value_error(self, store: CheckpointStore, seconds: Any) -> None:  # noqa: ANN401 - that is the point
        """Nothing is leased."""
        await store.save_checkpoint(make_state("1"), owner="me", lease_seconds=60)
        for call in (store.claim_checkpoint, store.renew_lease):
            with pytest.raises(ValueError, match="lease_seconds"):
                await call("1", "me", seconds)
        if seconds is not None:
            with pytest.raises(ValueError, match="lease_seconds"):
                await store.save_checkpoint(make_state("2"), owner="me", lease_seconds=seconds)
        assert len(await store.list_checkpoints()) == 1

    @pytest.mark.parametrize("limit", [-1, 1.5, True, "2", 2**70])
    async def test_a_bad_limit_of_abandoned_runs_is_a_value_error(self, store: CheckpointStore, limit: Any) -> None:  # noqa: ANN401 - that is the point
        """As for any listing."""
        with pytest.raises(ValueError, match="limit"):
            await store.list_abandoned(limit)

    @pytest.mark.parametrize("pinned", [1, "yes", None])
    async def test_a_pin_is_true_or_false(self, store: CheckpointStore, pinned: Any) -> None:  # noqa: ANN401 - that is the point
        """Nothing else."""
        with pytest.raises(ValueError, match="pinned"):
            await store.pin_checkpoint("1", pinned)
