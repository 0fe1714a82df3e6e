"""Damage to one state of a run, of which others are deltas."""

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.faults.links import Links, links_of
from tests.faults.load import state_of
from tests.faults.row import Verdict
from tests.persistence.chained import needs
from workflows_mcp import (
    CheckpointDecodeError,
    CheckpointMetadata,
    CheckpointStoreError,
    SQLAlchemyCheckpointStore,
)

__all__ = ["LINKS", "links_are_damaged"]

LINKS, _LOST = "damaged links", "undecodable by them"
"""Figures: how many states were damaged of which others are deltas, and how many cannot be loaded without these."""

_WAVES = 90

_IDS = [f"chain/{number}" for number in range(_WAVES)]


def _flip(file: sqlite3.Connection, link: str) -> bool:
    """Change one byte of its payload."""
    [[payload]] = file.execute("SELECT payload FROM checkpoints WHERE checkpoint_id = ?", (link,))
    place = len(payload) // 2
    damaged = payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :]
    file.execute("UPDATE checkpoints SET payload = ? WHERE checkpoint_id = ?", (damaged, link))
    return True


def _remove(file: sqlite3.Connection, link: str) -> bool:
    """Delete it as a program does that knows of no foreign keys."""
    file.execute("DELETE FROM checkpoints WHERE checkpoint_id = ?", (link,))
    return True


def _replace(file: sqlite3.Connection, link: str) -> bool:
    """Have it be another state, which can be loaded, as such a program does."""
    file.execute("UPDATE checkpoints SET state_digest = 'of another state' WHERE checkpoint_id = ?", (link,))
    return False


_WAYS: Mapping[str, Callable[[sqlite3.Connection, str], bool]] = {
    "flipped": _flip,
    "removed": _remove,
    "replaced": _replace,
}
"""Each returns whether the state itself cannot be loaded any more."""


async def links_are_damaged(template: Path, folder: Path, chance: random.Random, rounds: int, verdict: Verdict) -> None:
    """Exactly the states that need it cannot be loaded, the error says so, and all else goes on.

    Args:
        template: A database at head.
        folder: Does not exist yet.
        chance: Decides which state it is.
        rounds: How often each kind of damage is done.
        verdict: Takes figures and what is broken.
    """
    folder.mkdir()
    run = Path(shutil.copyfile(template, folder / "run.db"))
    async with SQLAlchemyCheckpointStore(str(run)) as store:
        for number, checkpoint_id in enumerate(_IDS):
            await store.save_checkpoint(state_of(checkpoint_id, number))
        links = await links_of(store)
    verdict.figures |= {"deltas": len(links.bases), LINKS: 0, _LOST: 0}
    links.must_hold(verdict)
    bases = sorted(set(links.bases.values()).intersection(_IDS))
    for _ in range(rounds):
        for way, damage in _WAYS.items():
            link = chance.choice(bases)
            copy = Path(shutil.copyfile(run, folder / "damaged.db"))
            with contextlib.closing(sqlite3.connect(copy)) as file, file:
                is_lost = damage(file, link)
            needing = needs(links.bases, link) - (set() if is_lost else {link})
            await _look(copy, link, needing, way, verdict)
            await _delete_it(copy, link, links, needing, verdict)
            for left in folder.glob("damaged.db*"):
                left.unlink()
            verdict.figures[LINKS] = int(str(verdict.figures[LINKS])) + 1
            verdict.figures[_LOST] = int(str(verdict.figures[_LOST])) + len(needing)


async def _look(path: Path, link: str, needing: set[str], way: str, verdict: Verdict) -> None:
    """Load each by itself, and all together."""
    lost: set[str] = set()
    told: set[str] = set()

    def damaged(metadata: CheckpointMetadata, _error: CheckpointDecodeError) -> None:
        told.add(metadata.checkpoint_id)

    async with SQLAlchemyCheckpointStore(str(path)) as store:
        for number, checkpoint_id in enumerate(_IDS):
            try:
                found = await store.load_checkpoint(checkpoint_id)
            except CheckpointDecodeError as error:
                lost.add(checkpoint_id)
                is_named = repr(link) in str(error)
                verdict.require(is_named, f"{way}: the error of {checkpoint_id} does not name {link}: {error}")
            except CheckpointStoreError as error:
                verdict.broken.append(f"{way}: the load of {checkpoint_id} raised {error!r}")
            else:
                if found is None:
                    lost.add(checkpoint_id)
                    verdict.require(checkpoint_id == link, f"{way}: {checkpoint_id} is gone, and nobody says so")
                else:
                    verdict.require(found == state_of(checkpoint_id, number), f"{way}: {checkpoint_id} is another")
        states = {state.checkpoint_id async for state in store.iter_checkpoints(on_damaged=damaged)}
    wrong = sorted(lost ^ needing)
    verdict.require(not wrong, f"{way}: {link} is damaged, and of {wrong[:5]} the wrong ones load, or do not")
    both = {*_IDS} - states
    verdict.require(both - {link} == told - {link} == needing - {link}, f"{way}: iteration skips {sorted(both)}")


async def _delete_it(path: Path, link: str, links: Links, needing: set[str], verdict: Verdict) -> None:
    """What is damaged can be deleted with all that need it, and what does not need it is as before."""
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        try:
            for checkpoint_id in sorted(needing, key=_IDS.index, reverse=True):  # none is needed any more by then
                await store.delete_checkpoint(checkpoint_id)
            number = len(_IDS)
            await store.save_checkpoint(state_of(f"chain/{number}", number))
        except CheckpointStoreError as error:
            verdict.broken.append(f"what needs {link} cannot be deleted: {error!r}")
        left = {state.checkpoint_id async for state in store.iter_checkpoints() if state.checkpoint_id in links.bases}
    verdict.require(left == set(links.bases) - needing, "what does not need a damaged state went with it")
