"""A run whose states are stored as deltas of one another."""

import random
from collections.abc import Sequence

from tests.migrations import raw
from workflows_mcp import CheckpointState, SQLAlchemyCheckpointStore
from workflows_mcp.testing import make_state

__all__ = ["SECRET", "bases_of", "needs", "run_of", "save_run"]

SECRET = "nobody's business"


def run_of(count: int, run_id: str = "run", *, text_bytes: int = 6_000) -> list[CheckpointState]:
    """States of a run, each with all that the one before has and a word more; they differ from run to run."""
    words = random.Random(run_id)
    text = SECRET + "".join(f" {words.getrandbits(64):x}" for _ in range(text_bytes // 16))
    return [
        make_state(
            f"{run_id}-{number:03}",
            run_id=run_id,
            context={"text": text, "said": [f"{SECRET} {one}" for one in range(number)]},
            created_at=1_000.0 + number,
            current_wave_index=number,
        )
        for number in range(count)
    ]


async def save_run(store: SQLAlchemyCheckpointStore, states: Sequence[CheckpointState]) -> None:
    """Save one after the other, as a run does."""
    for state in states:
        await store.save_checkpoint(state)


async def bases_of(url: str) -> dict[str, str]:
    """What is stored as a delta of what."""
    return {
        name: base
        for name, base in await raw.fetch(
            url, "SELECT checkpoint_id, base_checkpoint_id FROM checkpoints WHERE base_checkpoint_id IS NOT NULL"
        )
    }


def needs(bases: dict[str, str], name: str) -> set[str]:
    """All that need a checkpoint to be unpacked, itself included."""
    found = {name}
    while more := {one for one, base in bases.items() if base in found} - found:
        found |= more
    return found
