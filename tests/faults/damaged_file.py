"""A file is damaged, replaced, deleted, moved, hard-linked or no database at all, while it is open and before."""

import asyncio
import os
import random
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import create_async_engine

from tests.faults.calls import READS, WRITES, make_ready
from tests.faults.crew import append, join, start
from tests.faults.damaged_links import LINKS, links_are_damaged
from tests.faults.damaged_pages import DAMAGED, UNREADABLE, is_damaged
from tests.faults.leftovers import count_threads, threads_left
from tests.faults.load import state_of
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import (
    CheckpointStoreError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    upgrade_schema,
)
from workflows_mcp.settings import Settings

__all__ = ["ROW"]

_NOBODY = 65534

_SECONDS_TO_NOTICE = 0.1
"""How long a read may go on without noticing that its file is gone."""


def _count(verdict: Verdict, figure: str, more: int = 1) -> None:
    verdict.figures[figure] = int(str(verdict.figures[figure])) + more


async def check(place: Place, effort: Effort) -> Verdict:
    """Do all of it, each in a folder of its own."""
    verdict = Verdict()
    verdict.figures.update(
        {"refused calls": 0, "swaps under load": 0, "acked to a dead inode": 0, "damaged files": 0, "damage found": 0}
        | {UNREADABLE: 0}
    )
    verdict.figures[UNREADABLE] = 0
    threads = count_threads()
    place.folder.chmod(0o755)  # somebody else must get as far as the file
    template = place.folder / "template.db"
    await upgrade_schema(str(template))
    async with SQLAlchemyCheckpointStore(str(template)) as store:
        await make_ready(store)
    for name, mishap in _WHILE_OPEN.items():
        for engine in (False, True):
            folder = place.folder / f"{name}-{engine}"
            await _happens_while_open(_copy(template, folder), mishap, f"{name}, {engine=}", verdict, engine=engine)
    await _a_wal_file_is_deleted_and_nothing_is_lost(_copy(template, place.folder / "kept"), verdict)
    for round_ in range(effort.of(60, 3)):
        path = _copy(template, place.folder / f"swap-{round_}")
        await _is_swapped_under_load(path, effort.chance().random() * 0.02 * (round_ + 1) % 0.1, verdict)
    await _is_no_database(template, place.folder / "odd", verdict)
    await _may_only_be_read(_copy(template, place.folder / "read-only"), verdict)
    chance = effort.chance()
    for round_ in range(effort.of(60, 1)):
        for name, suffixes in {"closed": None, **DAMAGED}.items():
            folder = place.folder / f"damaged-{round_}-{name}"
            found = await is_damaged(_copy(template, folder), chance, verdict, suffixes=suffixes)
            _count(verdict, "damaged files")
            _count(verdict, "damage found", int(found))
            shutil.rmtree(folder)
    await links_are_damaged(template, place.folder / "links", effort.chance(), effort.of(20, 1), verdict)
    figures = verdict.figures
    figures["threads left"] = await threads_left(threads)
    verdict.require(figures["threads left"] == 0, "threads are left that somebody would wait for at exit")
    verdict.require(figures["damage found"], "no damage was found, so none was done")
    verdict.require(figures[LINKS], "no state was damaged of which others are deltas")
    verdict.require(figures["acked to a dead inode"] == 0, "a write was acknowledged to a file that was gone")
    return verdict


# --- while it is open


def _copy(path: Path, folder: Path) -> Path:
    folder.mkdir()
    return Path(shutil.copyfile(path, folder / "checkpoints.db"))


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _delete(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    copy = Path(shutil.copyfile(path, _beside(path, ".copy")))
    copy.rename(path)


def _delete_wal(path: Path) -> None:
    _beside(path, "-wal").unlink()


def _replace_wal(path: Path) -> None:
    _replace(_beside(path, "-wal"))


def _delete_shm(path: Path) -> None:
    _beside(path, "-shm").unlink()


def _delete_all(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        _beside(path, suffix).unlink()


def _link(path: Path) -> None:
    os.link(path, _beside(path, ".link"))


def _move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name(path.parent.name + "-moved"))


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


_WHILE_OPEN: Mapping[str, Callable[[Path], None]] = {
    "deleted": _delete,
    "replaced": _replace,
    "wal deleted": _delete_wal,
    "wal replaced": _replace_wal,
    "shm deleted": _delete_shm,
    "all deleted": _delete_all,
    "hard-linked": _link,
    "folder moved": _move_folder,
    "now a folder": _make_folder,
}


@asynccontextmanager
async def _store(path: Path, *, engine: bool) -> AsyncIterator[SQLAlchemyCheckpointStore]:
    """A store that has been used, with an engine of its own or of somebody else's."""
    theirs = create_async_engine(f"sqlite+aiosqlite:///{path}") if engine else None
    try:
        async with SQLAlchemyCheckpointStore(
            theirs if theirs is not None else str(path), settings=Settings(deadline_seconds=2.0)
        ) as store:
            await store.save_checkpoint(state_of("before", 1))
            for read in READS.values():
                await read(store)
            yield store
    finally:
        if theirs is not None:
            await theirs.dispose()


async def _happens_while_open(
    path: Path, mishap: Callable[[Path], None], what: str, verdict: Verdict, *, engine: bool
) -> None:
    """No write is acknowledged afterwards, nothing is read for long, and nothing is made anew."""
    async with _store(path, engine=engine) as store:
        mishap(path)
        there = sorted(path.parent.iterdir()) if path.parent.exists() else None
        for name, write in WRITES.items():
            await _must_be_refused(store, name, write, what, verdict)
        await asyncio.sleep(_SECONDS_TO_NOTICE)
        for name, read in READS.items():
            await _must_be_refused(store, name, read, what, verdict)
        now = sorted(path.parent.iterdir()) if path.parent.exists() else None
        verdict.require(now == there, f"{what}: something was made in the folder: {now}, and before {there}")


async def _must_be_refused(
    store: SQLAlchemyCheckpointStore,
    name: str,
    call: Callable[[SQLAlchemyCheckpointStore], object],
    what: str,
    verdict: Verdict,
) -> None:
    began = time.perf_counter()
    try:
        found = await call(store)  # type: ignore[misc] # calls return awaitables of several kinds
    except StoreConfigurationError:
        _count(verdict, "refused calls")
    except Exception as error:  # noqa: BLE001 - it is what was found
        verdict.broken.append(f"{what}: {name} raised {error!r}")
    else:
        verdict.broken.append(f"{what}: {name} returned {found!r}")
    verdict.require(time.perf_counter() - began < 1, f"{what}: {name} took longer than a second to be refused")


async def _a_wal_file_is_deleted_and_nothing_is_lost(path: Path, verdict: Verdict) -> None:
    """What was acknowledged before is in the database after an orderly end, as the error says."""
    async with _store(path, engine=False) as store:
        for number in range(20):
            await store.save_checkpoint(state_of(f"kept-{number}", number))
        _delete_wal(path)
        await _must_be_refused(store, "save", WRITES["save"], "wal deleted", verdict)
    async with _store(path, engine=False) as store:
        kept = [await store.load_checkpoint(f"kept-{number}") for number in range(20)]
    verdict.require(
        kept == [state_of(f"kept-{number}", number) for number in range(20)],
        "what was acknowledged before its -wal file was deleted is lost after an orderly end",
    )


async def _is_swapped_under_load(path: Path, seconds: float, verdict: Verdict) -> None:
    """A save that begins when another file is there is not acknowledged."""
    swapped_at = float("inf")
    late: list[str] = []
    acknowledged = 0

    async def save(store: SQLAlchemyCheckpointStore, name: str) -> None:
        nonlocal acknowledged
        for number in range(100_000):
            began = time.perf_counter()
            await store.save_checkpoint(state_of(f"{name}-{number}", number))
            acknowledged += 1
            if began > swapped_at:
                late.append(f"{name}-{number}")
                return

    copy = Path(shutil.copyfile(path, _beside(path, ".copy")))

    def swap() -> None:
        nonlocal swapped_at
        copy.rename(path)
        swapped_at = time.perf_counter()

    async with _store(path, engine=False) as store:
        savers = [asyncio.create_task(save(store, f"s{one}")) for one in range(6)]
        while not acknowledged:
            await asyncio.sleep(0.001)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(swap)
        ends = await asyncio.wait_for(asyncio.gather(*savers, return_exceptions=True), 5)
    verdict.require(acknowledged, "nothing was acknowledged before a swap")
    for end in ends:
        verdict.require(isinstance(end, StoreConfigurationError), f"a saver ended with {end!r}")
    _count(verdict, "swaps under load")
    _count(verdict, "acked to a dead inode", len(late))


# --- before it is opened


async def _is_no_database(template: Path, folder: Path, verdict: Verdict) -> None:
    """A typed error, soon, and the file stays as it is."""
    folder.mkdir()
    (folder / "directory").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "empty").touch()
    (folder / "text").write_text("these are my notes\n" * 300)
    whole = template.read_bytes()
    (folder / "header").write_bytes(b"\0" * 100 + whole[100:])
    (folder / "half").write_bytes(whole[: len(whole) // 2])
    (folder / "noise").write_bytes(random.Random(1).randbytes(8192))
    shutil.copyfile(template, folder / "linked")
    os.link(folder / "linked", folder / "link")
    (folder / "dangling").symlink_to(folder / "nowhere")
    for name in ("directory", "fifo", "empty", "text", "header", "half", "noise", "link", "dangling", "missing"):
        path = folder / name
        before = path.read_bytes() if path.is_file() else None
        for call in (WRITES["save"], READS["load"], READS["list all"]):
            began = time.perf_counter()
            async with SQLAlchemyCheckpointStore(str(path)) as store:
                try:
                    await call(store)
                except CheckpointStoreError:
                    _count(verdict, "refused calls")
                except Exception as error:  # noqa: BLE001 - it is what was found
                    verdict.broken.append(f"{name}: raised {error!r}")
                else:
                    # Half a file may still have the page that is asked for.
                    verdict.require(name == "half", f"{name}: was taken for a database")
            verdict.require(time.perf_counter() - began < 1, f"{name}: took longer than a second")
        verdict.require((path.read_bytes() if path.is_file() else None) == before, f"{name}: was changed")
    verdict.require(not (folder / "missing").exists(), "a file that was missing was made")
    verdict.require(not (folder / "nowhere").exists(), "what a symbolic link named was made")
    # By a symbolic link it is one database all the same: SQLite names the files beside it after the real one.
    shutil.copyfile(template, folder / "real")
    (folder / "symlink").symlink_to("real")
    async with (
        SQLAlchemyCheckpointStore(str(folder / "symlink")) as one,
        SQLAlchemyCheckpointStore(str(folder / "real")) as other,
    ):
        await one.save_checkpoint(state_of("by link", 1))
        verdict.require(
            await other.load_checkpoint("by link") == state_of("by link", 1), "a symbolic link leads astray"
        )


async def _may_only_be_read(path: Path, verdict: Verdict) -> None:
    """Reads may work; writes are refused. Modes bind no root, so that another user tries."""
    path.parent.chmod(0o777)
    path.chmod(0o444)
    answers = path.parent / "answers"
    answers.touch(0o666)
    answers.chmod(0o666)
    child = start(_try_to_write, path, answers)
    await join(child)
    told = answers.read_text().splitlines()
    for line in told:
        verdict.require(line.endswith(": StoreConfigurationError"), f"read-only: {line}")
    verdict.require(len(told) == len(WRITES), f"read-only: only {told} were tried")
    _count(verdict, "refused calls", len(told))


async def _try_to_write(path: Path, answers: Path) -> None:
    # Made before, since the other user may not read the modules that it imports.
    async with SQLAlchemyCheckpointStore(str(path), settings=Settings(deadline_seconds=2.0)) as store:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
        for name, write in WRITES.items():
            try:
                found = repr(await write(store))
            except Exception as error:  # noqa: BLE001 - it is told
                found = type(error).__name__
            append(answers, f"{name}: {found}")


ROW = Row(
    fault="file damaged, replaced, deleted, read-only, hard-linked, a directory",
    promise=(
        "A file that is swapped, deleted or linked: no write is acknowledged that is not in the file of that name, and "
        "nothing is made anew. Damaged pages: found when they are read, by SQLite's checks or the payload's checksum, "
        "with a typed error; what is loaded is what was saved. Of a run, exactly the states that need a damaged one "
        "cannot be loaded."
    ),
    check=check,
    databases=("sqlite",),
)
