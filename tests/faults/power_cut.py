"""The power goes while a process saves, at hundreds of points of what it did to its files."""

import asyncio
import contextlib
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.audit import audit
from tests.faults.disk import Disk, Event, trace
from tests.faults.load import Acknowledged, state_of
from tests.faults.power_cut_writer import ACKNOWLEDGED, CHAINS, DATABASE, DELETED, UPGRADED
from tests.faults.row import STRACE, Effort, Place, Row, Verdict
from workflows_mcp import CheckpointStoreError, SQLAlchemyCheckpointStore, upgrade_schema

__all__ = ["ROW"]


async def check(place: Place, effort: Effort) -> Verdict:
    """Trace a writer, cut its power again and again, and load all that is left; so for FULL and for NORMAL."""
    rounds = effort.of(40, 16)
    full = await _cut_often(place, effort, "FULL", rounds, effort.of(600, 20))
    normal = await _cut_often(place, effort, "NORMAL", rounds, effort.of(150, 30))
    verdict = Verdict({
        "losing points under FULL": f"{len(full.losing)} of {full.points}",
        "damaged": len(full.damaged),
        "losing points under NORMAL": f"{len(normal.losing)} of {normal.points}",
        "acknowledged": full.acknowledged,
        "deltas": full.deltas,
    })  # fmt: skip
    verdict.broken += [f"lost under FULL: {one}" for one in full.losing[:5]]
    verdict.broken += [f"damaged under FULL: {one}" for one in full.damaged[:5]]
    # NORMAL promises less: a file that is whole, in which the newest are missing. If none is, nothing was tried.
    verdict.broken += [f"damaged under NORMAL: {one}" for one in normal.damaged[:5]]
    verdict.require(normal.losing, "nothing is lost under NORMAL, so that this could find no loss at all")
    verdict.require(full.deltas, "nothing was stored as a delta")
    verdict.require(full.folds, "the -wal file was never written from its beginning again, so that no reset was tried")
    return verdict


@dataclass
class _Cuts:
    """What many power cuts left of what one process did.

    Attributes:
        points: How many cuts there were.
        acknowledged: How many saves were acknowledged to the process.
        folds: How often the -wal file began anew.
        deltas: How many of the rows that are left are deltas, after the cut that left the most.
        losing: What is missing, a line for each cut that lost anything.
        damaged: What is wrong with the file or in it, a line for each cut that damaged anything.
    """

    points: int
    acknowledged: int = 0
    folds: int = 0
    deltas: int = 0
    losing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


async def _cut_often(place: Place, effort: Effort, synchronous: str, rounds: int, points: int) -> _Cuts:
    traced, replayed = place.folder / f"traced-{synchronous}", place.folder / "replayed"
    traced.mkdir()
    command = [sys.executable, "-m", "tests.faults.power_cut_writer", str(traced), synchronous, str(rounds)]
    events = await asyncio.to_thread(trace, command, traced, place.folder / "strace")
    disk, chance, found = Disk(events), effort.chance(), _Cuts(points)
    found.folds = sum(one.name == f"{DATABASE}-wal" and one.call == "write" and one.offset == 0 for one in events) - 1
    found.acknowledged = sum(one.name == ACKNOWLEDGED and one.call == "write" for one in events)
    for number in sorted(chance.randint(1, len(events)) for _ in range(points)):
        disk.go_on_until(number)
        shutil.rmtree(replayed, ignore_errors=True)
        replayed.mkdir()
        for name, content in {**disk.cut_power(chance), **_told(events[:number])}.items():
            (replayed / name).write_bytes(content)
        await _look(replayed, f"at event {number} of {len(events)}", found)
    return found


def _told(events: Sequence[Event]) -> dict[str, bytes]:
    """What the process wrote down: whoever was told of it was told before the power went."""
    told = dict.fromkeys((ACKNOWLEDGED, DELETED, UPGRADED), b"")
    for event in events:
        if event.call == "write" and event.name in told:
            told[event.name] += event.data
    return told


async def _look(folder: Path, where: str, found: _Cuts) -> None:
    """Load all that is there, and compare it with what was acknowledged."""
    url = str(folder / DATABASE)
    if not (folder / UPGRADED).read_bytes():
        # It went while the schema was made: that is made again.
        try:
            await upgrade_schema(url)
        except CheckpointStoreError as error:
            found.damaged.append(f"{where}: it cannot be upgraded: {error}")
            return
    try:
        with contextlib.closing(sqlite3.connect(f"file:{url}?mode=rw", uri=True)) as file:
            damage = [str(row[0]) for row in file.execute("PRAGMA integrity_check")]
    except sqlite3.Error as error:
        damage = [str(error)]
    if damage != ["ok"]:
        found.damaged.append(f"{where}: integrity_check: {damage[0]}")
        return
    try:
        async with SQLAlchemyCheckpointStore(url) as store:
            await _compare(store, folder, where, found)
    except CheckpointStoreError as error:
        found.damaged.append(f"{where}: {error}")


async def _compare(store: SQLAlchemyCheckpointStore, folder: Path, where: str, found: _Cuts) -> None:
    audited = await audit(store, Acknowledged(folder / ACKNOWLEDGED))
    listed = {one.checkpoint_id: one for one in await store.list_checkpoints()}
    lost = audited.lost + [f"{one} was deleted" for one in (folder / DELETED).read_text().split() if one in listed]
    if lost:
        found.losing.append(f"{where}: {len(lost)}, such as: {lost[0]}")
    found.deltas = max(found.deltas, len(audited.links.bases))
    wrong = audited.torn + audited.links.wrong
    for chain in CHAINS:
        heads = [one for one in listed.values() if one.checkpoint_id.startswith(chain) and not one.superseded]
        if heads != [listed[one] for one in (_newest(chain, list(listed)),) if one is not None]:
            wrong.append(f"{[one.checkpoint_id for one in heads]} are all heads of one chain")
    await store.save_checkpoint(state_of("after", 1))
    if await store.load_checkpoint("after") != state_of("after", 1):
        wrong.append("nothing can be saved any more")
    if wrong:
        found.damaged.append(f"{where}: {wrong[0]}")


def _newest(chain: str, ids: Sequence[str]) -> str | None:
    """The last one of a chain."""
    return max((one for one in ids if one.startswith(chain)), key=lambda one: int(one.rpartition("/")[2]), default=None)


ROW = Row(
    fault="power cut",
    promise="Under FULL, the default, nothing acknowledged is lost wherever the power goes, and no file is damaged.",
    check=check,
    databases=("sqlite",),
    needs=(STRACE,),
)
