"""Noise in the pages of a database file, and of its -wal file."""

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.faults.calls import READS
from tests.faults.load import state_of
from tests.faults.row import Verdict
from workflows_mcp import CheckpointStoreError, SQLAlchemyCheckpointStore
from workflows_mcp.settings import Settings

__all__ = ["DAMAGED", "UNREADABLE", "is_damaged"]

_STORED = 60
"""How many checkpoints a file has that is damaged."""

_DEADLINE = 2.0
"""Seconds that a call to a damaged file has, since SQLite may walk in circles in one."""

DAMAGED: Mapping[str, Sequence[str]] = {"both": ("", "-wal"), "file": ("",), "wal": ("-wal",)}
"""What is damaged while a store has it open: the files' suffixes."""

UNREADABLE = "acknowledged, then unreadable"
"""The figure of saves that went into damaged pages and are found to be gone when they are read."""


async def is_damaged(path: Path, chance: random.Random, verdict: Verdict, *, suffixes: Sequence[str] | None) -> bool:
    """Whatever is loaded is what was saved; all else is an error of ours. Nothing crashes.

    Args:
        path: A database at head.
        chance: Decides where the noise goes.
        verdict: Takes what is broken.
        suffixes: Of the files that are damaged while a store has them open; None: nobody has, and it is the database.

    Returns:
        Whether the damage was noticed at all: some of it lies where nothing is.
    """
    settings = Settings(deadline_seconds=_DEADLINE)
    is_saved = False
    if suffixes is not None:
        async with SQLAlchemyCheckpointStore(str(path), settings=settings) as store:
            await _fill(store)
            for suffix in suffixes:
                _write_noise(path.with_name(path.name + suffix), chance)
            await _use(store, verdict)
            with contextlib.suppress(CheckpointStoreError):
                await store.save_checkpoint(state_of("after", 1))
                is_saved = True
    else:
        async with SQLAlchemyCheckpointStore(str(path)) as store:
            await _fill(store)
        _write_noise(path, chance)
    async with SQLAlchemyCheckpointStore(str(path), settings=settings) as store:
        if is_saved:
            await _load_after(store, verdict)
        return await _use(store, verdict)


async def _load_after(store: SQLAlchemyCheckpointStore, verdict: Verdict) -> None:
    """What was acknowledged by a damaged file is there, or an error tells that it cannot be read."""
    try:
        found = await store.load_checkpoint("after")
    except CheckpointStoreError:
        verdict.figures[UNREADABLE] = int(str(verdict.figures[UNREADABLE])) + 1
    except Exception as error:  # noqa: BLE001 - it is what was found
        verdict.broken.append(f"damaged: the load of what was acknowledged raised {error!r}")
    else:
        verdict.require(
            found == state_of("after", 1),
            f"damaged: what was acknowledged is {'gone' if found is None else 'another'}, and nobody says so",
        )


async def _fill(store: SQLAlchemyCheckpointStore) -> None:
    await asyncio.gather(*(store.save_checkpoint(state_of(f"d-{number}", number)) for number in range(_STORED)))


def _write_noise(path: Path, chance: random.Random) -> None:
    size = path.stat().st_size
    if not size:
        return
    with path.open("r+b") as file:
        for _ in range(chance.choice((1, 5, 30))):
            file.seek(chance.randrange(size))
            file.write(chance.randbytes(chance.choice((1, 8, 200))))


async def _use(store: SQLAlchemyCheckpointStore, verdict: Verdict) -> bool:
    found = 0
    for number in range(_STORED):
        try:
            state = await store.load_checkpoint(f"d-{number}")
        except CheckpointStoreError:
            found += 1
            continue
        except Exception as error:  # noqa: BLE001 - it is what was found
            verdict.broken.append(f"damaged: load raised {error!r}")
            continue
        verdict.require(
            state is None or state == state_of(f"d-{number}", number), f"damaged: d-{number} was loaded as another"
        )
        found += state is None

    for name, read in READS.items():
        began = time.perf_counter()
        try:
            await read(store)
        except CheckpointStoreError:
            found += 1
        except Exception as error:  # noqa: BLE001 - it is what was found
            verdict.broken.append(f"damaged: {name} raised {error!r}")
        seconds = time.perf_counter() - began
        # An iteration has as many calls as there are pages.
        verdict.require(name == "iterate" or seconds < _DEADLINE + 0.25, f"damaged: {name} took {seconds:.2f} s")
    return found > 0
