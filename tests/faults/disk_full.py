"""The disk fills up while many tasks save, and then has room again."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.audit import audit
from tests.faults.load import Acknowledged, save_for_ever, state_of
from tests.faults.row import TMPFS, Effort, Place, Row, Verdict
from tests.faults.servers import new_server
from tests.faults.small_disk import SmallDisk, mount
from tests.migrations import raw
from workflows_mcp import (
    CheckpointStoreError,
    SQLAlchemyCheckpointStore,
    StoreFullError,
    backup_database,
    upgrade_schema,
)

__all__ = ["ROW"]

_SIZE = "2m"
_LEAST_ROOM, _MOST_ROOM = 100 * 2**10, 200 * 2**10
"""How many bytes of it are left for saving, when the schema is there: at least, and how many more at the most."""

_MOST_ROWS = 2_000
"""More than fit into it."""

_SECONDS_TO_FILL = 20.0
_WORST_SECONDS = 2.0
"""A full disk is no fault that goes away by itself: who saves is told long before the deadline of 10 s."""


@dataclass
class _Found:
    """What was found, all disks together.

    Attributes:
        full: How often a disk was full.
        acknowledged: How many saves were.
        lost: Which of them are not there.
        torn: What cannot be loaded.
        misled: What somebody was told instead of that the disk is full; None of an error that never came.
        refused: How often a store that is opened on the full disk could not read, and was told why.
        deltas: How many a disk held that held the most.
        seconds: The longest that somebody waited to be told that the disk is full.
    """

    full: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    misled: list[str] = field(default_factory=list)
    refused: int = 0
    deltas: int = 0
    seconds: float = 0.0


async def check(place: Place, effort: Effort) -> Verdict:
    """Fill the disk again and again; what was saved is there while it is full, and afterwards."""
    folder = place.folder / "small"
    folder.mkdir()
    disk = mount(folder, _SIZE)
    verdict, chance = Verdict(), effort.chance()
    found = _Found()
    databases = _on_file if place.database == "sqlite" else _on_server
    async with databases(place.folder, disk) as new_database:
        for number in range(effort.of(40, 10)):
            url = await new_database()
            await upgrade_schema(url)
            acknowledged = Acknowledged(place.folder / f"acknowledged-{number}")
            disk.fill(_LEAST_ROOM + chance.randint(0, _MOST_ROOM))
            await _fill_up(url, acknowledged, disk, found, is_closed_with_room=bool(number % 2))
            found.acknowledged += sum(1 for _ in acknowledged)
    verdict.figures |= {"times full": found.full, "acknowledged": found.acknowledged}
    verdict.figures |= {"lost": len(found.lost), "torn": len(found.torn), "deltas": found.deltas}
    verdict.require(found.deltas, "nothing was stored as a delta")
    verdict.figures["worst ms until told"] = round(found.seconds * 1000)
    verdict.broken += [f"lost: {one}" for one in found.lost[:5]] + [f"torn: {one}" for one in found.torn[:5]]
    verdict.broken += [f"on a full disk one is told: {one}" for one in found.misled[:5]]
    if place.database == "sqlite":
        verdict.figures["newcomers told so, too"] = found.refused
        verdict.require(found.refused, "no store was opened where there was no room to read a file of SQLite's")
    else:
        verdict.require(not found.refused, f"{found.refused} stores that were opened on a full disk could not read")
    verdict.require(found.seconds < _WORST_SECONDS, "it takes long to be told that the disk is full")
    return verdict


@asynccontextmanager
async def _on_file(_folder: Path, disk: SmallDisk) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    async def new_database() -> str:
        for file in disk.folder.iterdir():
            file.unlink()
        return str(disk.folder / "checkpoints.db")

    yield new_database


@asynccontextmanager
async def _on_server(folder: Path, disk: SmallDisk) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """A server whose log is on a large disk, and the tables on the small one."""
    async with new_server(folder) as server:
        shutil.copymode(folder / "server", disk.folder)
        owner = (folder / "server").stat()
        shutil.chown(disk.folder, owner.st_uid, owner.st_gid)
        await server.execute(f"CREATE TABLESPACE small LOCATION '{disk.folder}'")
        await server.execute("ALTER DATABASE postgres SET default_tablespace = small")

        async def new_database() -> str:
            await server.execute("DROP SCHEMA public CASCADE")
            await server.execute("CREATE SCHEMA public")
            await server.execute("CHECKPOINT")  # only then is the space of what was dropped free
            return server.url

        yield new_database


async def _fill_up(
    url: str, acknowledged: Acknowledged, disk: SmallDisk, found: _Found, *, is_closed_with_room: bool
) -> None:
    """Save until the disk is full, look, make room, and look again."""
    async with SQLAlchemyCheckpointStore(url) as store:
        await store.save_checkpoint(state_of("first", 0))
        acknowledged.note("first", 0)
        errors = [await _save_together(url, acknowledged), await _save_the_rest(store, acknowledged, disk, found)]
        found.misled += [repr(error) for error in errors if type(error) is not StoreFullError]
        found.full += 1
        if not raw.is_postgres(url):
            await _back_up(url, disk, found)
        await _look("the store that filled the disk", store, acknowledged, found)
    if is_closed_with_room:  # SQLite then leaves nothing beside the file
        disk.make_room()
        async with SQLAlchemyCheckpointStore(url) as store:
            await _look("a store that is opened when there is room again", store, acknowledged, found)
    disk.fill(0)
    async with SQLAlchemyCheckpointStore(url) as store:
        try:
            await _look("a store that is opened while the disk is full", store, acknowledged, found)
        except StoreFullError:
            # SQLite's, when nobody had the file open any more: there is no room for what even readers share.
            found.refused += 1
        except CheckpointStoreError as error:
            found.misled.append(repr(error))
        disk.make_room()
        await store.save_checkpoint(state_of("after", 1))
        acknowledged.note("after", 1)
    async with SQLAlchemyCheckpointStore(url) as store:
        await _look("a store that is opened when there is room again", store, acknowledged, found)


async def _save_together(url: str, acknowledged: Acknowledged) -> CheckpointStoreError | None:
    """Save with many tasks until one of them is told of an error."""
    told: asyncio.Future[CheckpointStoreError] = asyncio.get_running_loop().create_future()

    def take(error: CheckpointStoreError) -> None:
        if not told.done():
            told.set_result(error)

    saving = asyncio.create_task(save_for_ever(url, acknowledged, on_error=take))
    await asyncio.wait({told}, timeout=_SECONDS_TO_FILL)
    saving.cancel()
    await asyncio.wait({saving})
    return told.result() if told.done() else None


async def _save_the_rest(
    store: SQLAlchemyCheckpointStore, acknowledged: Acknowledged, disk: SmallDisk, found: _Found
) -> CheckpointStoreError | None:
    """Take all room away, and save until there is none left within the database either; the error that tells."""
    disk.fill(0)
    for number in range(_MOST_ROWS):
        began = time.perf_counter()
        try:
            await store.save_checkpoint(state_of(f"rest-{number}", number))
        except CheckpointStoreError as error:
            found.seconds = max(found.seconds, time.perf_counter() - began)
            return error
        acknowledged.note(f"rest-{number}", number)
    return None


async def _back_up(url: str, disk: SmallDisk, found: _Found) -> None:
    """Try to back up to the disk that is full: one is told so, and nothing of it is left."""
    before = set(disk.folder.iterdir())
    try:
        await backup_database(url, disk.folder / "backup.db")
    except StoreFullError:
        pass
    except CheckpointStoreError as error:
        found.misled.append(repr(error))
    else:
        found.misled.append("that a backup was made")
    if left := set(disk.folder.iterdir()) - before:
        found.misled.append(f"nothing, but a backup that failed has left {left}")


async def _look(who: str, store: SQLAlchemyCheckpointStore, acknowledged: Acknowledged, found: _Found) -> None:
    """Load all that a store holds, and compare it with what was acknowledged."""
    audited = await audit(store, acknowledged)
    found.lost += [f"{who}: {one}" for one in audited.lost]
    found.torn += [f"{who}: {one}" for one in audited.torn + audited.links.wrong]
    found.deltas = max(found.deltas, len(audited.links.bases))


ROW = Row(
    fault="disk full",
    promise="Who saves is told `StoreFullError` at once. Stores read on, and save again when there is room; one that "
    "opens a SQLite file which nobody has open needs 32 KB, or is told so.",
    check=check,
    needs=(TMPFS,),
)
