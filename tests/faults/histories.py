"""What is done with long runs, whose states are stored as deltas of others: a part of the model check."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.faults.filler import filler
from tests.faults.side_by_side import Stores
from workflows_mcp import CheckpointState, CheckpointStatus, CheckpointStore
from workflows_mcp.engine.stored import StoredCheckpoint
from workflows_mcp.testing import make_state

__all__ = ["HISTORY_KINDS", "Histories"]

HISTORY_KINDS = (
    *("go on", "save at once", "save a base again", "delete some", "pin a base", "take over", "write"),
    *("another process", "close and reopen with another cache"),
)
"""What `Histories` does, by the names that `Stores` counts it under."""

_LONGEST_RUN = 20
_FIRST_BYTES, _ADDED_BYTES = 4_800, 300

_CACHES = (64.0, 0.0, 0.02, 0.008)
"""Of live runs' states, in MiB: all that there is, none, that of a few states, and that of one or none."""

_LEASE_SECONDS = 50_000.0

_PLACES = st.integers(0, 2 * _LONGEST_RUN)
_RUNS = st.sampled_from(("r", "R"))
_KINDS = st.integers(0, 1)


def _grown(run_id: str, number: int, kind: int, began: float, **fields: Any) -> CheckpointState:
    """The state of a run after so many waves, of which each has added something.

    Args:
        run_id: Whose.
        number: Of the wave.
        kind: States of one kind have most in common, and those of two have nothing.
        began: What the times are counted from.
        fields: Of the state, others.
    """
    outputs = [filler(100 * kind + wave, _ADDED_BYTES) for wave in range(number)]
    given = {
        "workflow_name": run_id.lower(),
        "created_at": began - 3000.0 + 10 * number,
        "current_wave_index": number,
        "context": {"first": filler(-1 - kind, _FIRST_BYTES), "outputs": outputs},
    }
    return make_state(_name(run_id, number), run_id=run_id, **{**given, **fields})


def _name(run_id: str, number: int) -> str:
    return f"{run_id}{number:02}"


class Histories(RuleBasedStateMachine):
    """Runs that go on and on."""

    stores: Stores
    changes_of_cache = 0

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.waves = {"r": 0, "R": 0}

    def _next(self, run_id: str, count: int) -> Sequence[int]:
        first = self.waves[run_id]
        self.waves[run_id] += count
        numbers = [number % _LONGEST_RUN for number in range(first, first + count)]
        self.names += [_name(run_id, number) for number in numbers]
        return numbers

    def _at(self, place: int) -> str:
        """The id of something that was saved; of what came last when there is no such place."""
        return self.names[min(place, len(self.names) - 1)]

    @rule(run_id=_RUNS, count=st.integers(1, 10), kind=_KINDS, is_backward=st.booleans(), ends=st.booleans())
    def go_on(self, run_id: str, count: int, kind: int, is_backward: bool, ends: bool) -> None:  # noqa: FBT001 - drawn by name
        """By some waves, of which the last may be asking or over; or from the last to the first."""
        numbers = self._next(run_id, count)[:: -1 if is_backward else 1]
        states = [_grown(run_id, number, kind, self.stores.began) for number in numbers]
        if ends:
            status = CheckpointStatus.PAUSED if kind else CheckpointStatus.COMPLETED
            asks = "b" if kind else None
            last = _grown(run_id, numbers[-1], kind, self.stores.began, status=status, paused_block_id=asks)
            states[-1] = last

        async def save(store: CheckpointStore) -> object:
            return [await store.save_checkpoint(state) for state in states]

        self.stores.ask("go on", save, {"run_id": run_id, "numbers": numbers, "kind": kind, "ends": ends})

    @rule(run_id=_RUNS, count=st.integers(2, 9), kind=_KINDS)
    def save_at_once(self, run_id: str, count: int, kind: int) -> None:
        """Some waves, all at the same moment, so that none is a delta of another."""
        numbers = self._next(run_id, count)
        states = [_grown(run_id, number, kind, self.stores.began) for number in numbers]
        self.stores.ask(
            "save at once", lambda store: _save_all(store, states), {"run_id": run_id, "numbers": numbers, "kind": kind}
        )

    @precondition(lambda self: self.names)
    @rule(place=_PLACES, kind=_KINDS, moves=st.booleans())
    def save_a_base_again(self, place: int, kind: int, moves: bool) -> None:  # noqa: FBT001 - drawn by name
        """With the same content or another one; perhaps it is another run's from now on."""
        name = self._at(place)
        run_id = name[0].swapcase() if moves else name[0]
        state = replace(_grown(name[0], int(name[1:]), kind, self.stores.began), run_id=run_id)
        shown = {"name": name, "kind": kind, "run_id": run_id}
        self.stores.ask("save a base again", lambda store: store.save_checkpoint(state), shown)

    @precondition(lambda self: self.names)
    @rule(places=st.lists(_PLACES, min_size=1, max_size=4))
    def delete_some(self, places: list[int]) -> None:
        """Of which others may be deltas."""
        names = [self._at(place) for place in places]

        async def delete(store: CheckpointStore) -> object:
            return [await store.delete_checkpoint(name) for name in names]

        self.stores.ask("delete some", delete, {"names": names})

    @precondition(lambda self: self.names)
    @rule(place=_PLACES)
    def pin_a_base(self, place: int) -> None:
        """So that it outlives what is around it."""
        name = self._at(place)
        self.stores.ask("pin a base", lambda store: store.pin_checkpoint(name), {"name": name})

    @precondition(lambda self: self.names)
    @rule(place=_PLACES, count=st.integers(0, 5), kind=_KINDS, owner=st.sampled_from(("me", "you")))
    def take_over(self, place: int, count: int, kind: int, owner: str) -> None:
        """Claim what was saved at some time, and go on from it, as far as that is let pass."""
        claimed = self._at(place)
        states = [_grown(claimed[0], number, kind, self.stores.began) for number in self._next(claimed[0], count)]

        async def take(store: CheckpointStore) -> object:
            found, follows = [repr(await store.claim_checkpoint(claimed, owner, _LEASE_SECONDS))], claimed
            for state in states:
                saved = await store.save_checkpoint(state, follows=follows, owner=owner, lease_seconds=_LEASE_SECONDS)
                found.append(saved)
                follows = state.checkpoint_id
            return found

        self.stores.ask("take over", take, {"claimed": claimed, "count": count, "kind": kind, "owner": owner})

    @rule(
        run_id=_RUNS,
        count=st.integers(1, 4),
        kind=_KINDS,
        again=st.booleans(),
        on_conflict=st.sampled_from(("skip", "replace", "replace", "fail")),
    )
    def write(self, run_id: str, count: int, kind: int, again: bool, on_conflict: Any) -> None:  # noqa: FBT001 - drawn by name
        """As an import does: what is new, or what is there."""
        numbers = range(0, 3 * count, 3) if again else self._next(run_id, count)
        self.names += [_name(run_id, number) for number in numbers]
        states = [_grown(run_id, number, kind, self.stores.began) for number in numbers]
        stored = [StoredCheckpoint(state, pinned=number % 2 == 0) for number, state in enumerate(states)]

        async def write(store: CheckpointStore) -> object:
            return await store.write_stored(stored, on_conflict=on_conflict)

        self.stores.ask("write", write, {"run_id": run_id, "numbers": numbers, "kind": kind, "if": on_conflict})

    @rule()
    def another_process(self) -> None:
        """Goes on: a second store on the same database, which has not seen what the first one did."""
        self.stores.turn()

    @precondition(lambda self: self.changes_of_cache < 1)
    @rule(cache=st.sampled_from(_CACHES))
    def reopen_with_another_cache(self, cache: float) -> None:
        """Of any size; 0: nothing is stored as a delta."""
        self.changes_of_cache += 1
        self.stores.reopen(delta_cache_mb=cache)


async def _save_all(store: CheckpointStore, states: Sequence[CheckpointState]) -> list[str]:
    """Save states at once."""
    return await asyncio.gather(*map(store.save_checkpoint, states))
