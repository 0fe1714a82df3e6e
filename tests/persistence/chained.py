"""A run whose states are stored as deltas of one another; made in the processes that tests start, too."""

import random
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from tests.faults.filler import filler
from tests.migrations import raw
from workflows_mcp import CheckpointDecodeError, CheckpointState, CheckpointStore
from workflows_mcp.testing import assert_same, make_state

__all__ = ["SECRET", "all_bases", "bases_of", "broken_of", "needs", "run_of", "said", "save_run", "wave"]

SECRET = "nobody's business"


def wave(number: int, run_id: str | None = "r", size: int = 5_000, **fields: Any) -> CheckpointState:
    """The state of a run after a wave: most of it is what it was before."""
    given = {"checkpoint_id": f"{run_id} {number}", "context": {"text": filler(0, size), "number": number}, **fields}
    return make_state(run_id=run_id, **given)


def run_of(count: int, run_id: str = "run", *, text_bytes: int = 6_000) -> list[CheckpointState]:
    """States of a run, each with all that the one before has and a word more; they differ from run to run."""
    text = SECRET + filler(zlib.crc32(run_id.encode()), text_bytes)
    return [
        wave(
            number,
            run_id,
            checkpoint_id=f"{run_id}-{number:03}",
            context={"text": text, "said": [said(run_id, one) for one in range(number + 1)]},
            created_at=1_000.0 + number,
            current_wave_index=number,
        )
        for number in range(count)
    ]


def said(run_id: str, number: int) -> str:
    """What is new in a state: so little that zstd leaves it as it is."""
    return f"{random.Random(f'{run_id} {number}').getrandbits(96):024x}"


async def save_run(store: CheckpointStore, states: Sequence[CheckpointState]) -> None:
    """Save one after the other, as a run does."""
    for state in states:
        await store.save_checkpoint(state)


async def all_bases(url: str) -> dict[str, str | None]:
    """What each checkpoint is a delta of; None: it is whole."""
    return dict(await raw.fetch(url, "SELECT checkpoint_id, base_checkpoint_id FROM checkpoints"))


async def bases_of(url: str) -> dict[str, str]:
    """What is stored as a delta of what."""
    return {one: base for one, base in (await all_bases(url)).items() if base is not None}


def needs(bases: Mapping[str, str], name: str) -> set[str]:
    """All that need a checkpoint to be unpacked, itself included."""
    found = {name}
    while more := {one for one, base in bases.items() if base in found} - found:
        found |= more
    return found


async def broken_of(
    store: CheckpointStore, states: list[CheckpointState], *, others_too: bool = False
) -> dict[str, CheckpointDecodeError]:
    """What cannot be loaded, and why; all else loads equal, one by one and, unless there are others, by a walk."""
    broken: dict[str, CheckpointDecodeError] = {}
    for state in states:
        try:
            assert_same(await store.load_checkpoint(state.checkpoint_id), state)
        except CheckpointDecodeError as error:
            broken[state.checkpoint_id] = error
    if others_too:
        return broken
    walked: dict[str, str] = {}
    found = [
        one
        async for one in store.iter_checkpoints(
            on_damaged=lambda metadata, error: walked.update({metadata.checkpoint_id: str(error)})
        )
    ]
    assert walked == {name: str(error) for name, error in broken.items()}
    assert found == [one for one in reversed(states) if one.checkpoint_id not in broken]
    return broken
