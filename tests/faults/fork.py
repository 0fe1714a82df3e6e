"""A process is forked, or another event loop or thread is tried, while a store is open."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.faults.audit import audit
from tests.faults.calls import READS, WRITES, make_ready
from tests.faults.crew import append, join, start
from tests.faults.leftovers import count_threads, threads_left
from tests.faults.load import Acknowledged, state_of
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import SQLAlchemyCheckpointStore, StoreConfigurationError, upgrade_schema

__all__ = ["ROW"]

_SECONDS_TO_HANG = 20
"""After this long a child ends by a signal, and counts as hung."""

_MOST_SECONDS = 2.0
"""How long a call may take that is refused, or that the parent makes beside its children."""

_FORKS = multiprocessing.get_context("fork")


async def check(place: Place, effort: Effort) -> Verdict:
    """Fork beside saves under way, in several ways, and ask children and parent what they can still do."""
    verdict = Verdict({"forks": 0, "refused in children": 0, "worst refusal s": 0.0, "worst parent's call s": 0.0})
    threads = count_threads()
    await upgrade_schema(place.url)
    acknowledged = Acknowledged(place.folder / "acknowledged")
    async with SQLAlchemyCheckpointStore(place.url) as store:
        savers = [asyncio.create_task(_save(store, f"s{number}", acknowledged)) for number in range(4)]
        ways: list[Callable[[], None]] = [
            lambda: asyncio.run(_use_inherited(store, place.folder / "told")),
            lambda: asyncio.run(_open_another(place, place.folder / "told")),
            _collect,
            lambda: None,
        ]
        for number in range(effort.of(24, 4)):
            await asyncio.sleep(0.01)
            await _fork(ways[number % len(ways)], store, verdict)
        for _ in range(effort.of(4, 1)):
            await _fork_by_multiprocessing(store, place.folder / "told", verdict)
        for saver in savers:
            saver.cancel()
        await asyncio.wait(savers)
        if place.database == "sqlite":
            told = start(_try_to_lock_all, place.url, place.folder / "told")
            await join(told)
        (await audit(store, acknowledged)).tell(verdict)
    _read_what_was_told(place, verdict)
    await _child_ends_as_an_interpreter_does(place, verdict)
    await _other_loops(place, verdict)
    verdict.figures["threads left"] = left = await threads_left(threads)
    verdict.require(not left, f"{left} threads are left")
    return verdict


async def _save(store: SQLAlchemyCheckpointStore, name: str, acknowledged: Acknowledged) -> None:
    for number in range(1_000_000):
        checkpoint_id = f"{name}-{number % 50}" if number % 10 else f"{name}/{number}"
        await store.save_checkpoint(state_of(checkpoint_id, number))
        acknowledged.note(checkpoint_id, number)


# --- children


async def _fork(work: Callable[[], None], store: SQLAlchemyCheckpointStore, verdict: Verdict) -> None:
    """Have a child do something, and the parent go on meanwhile and afterwards."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(_SECONDS_TO_HANG)
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - it is told
            traceback.print_exc()
        finally:
            os._exit(code)
    ended, status = 0, 0
    while not ended:
        await _parents_calls(store, verdict)
        ended, status = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait
    await _parents_calls(store, verdict)
    verdict.figures["forks"] = int(str(verdict.figures["forks"])) + 1
    verdict.require(os.waitstatus_to_exitcode(status) == 0, f"a child ended with {os.waitstatus_to_exitcode(status)}")


async def _parents_calls(store: SQLAlchemyCheckpointStore, verdict: Verdict) -> None:
    began = time.perf_counter()
    await store.save_checkpoint(state_of("parent", 1))
    verdict.require(await store.load_checkpoint("parent") == state_of("parent", 1), "the parent loads something else")
    await store.list_checkpoints()
    _worst(verdict, "worst parent's call s", time.perf_counter() - began)


async def _fork_by_multiprocessing(store: SQLAlchemyCheckpointStore, told: Path, verdict: Verdict) -> None:
    process = _FORKS.Process(target=_by_multiprocessing, args=(store, told))
    process.start()
    end = time.monotonic() + _SECONDS_TO_HANG
    while process.exitcode is None and time.monotonic() < end:
        await _parents_calls(store, verdict)
    verdict.figures["forks"] = int(str(verdict.figures["forks"])) + 1
    verdict.require(process.exitcode == 0, f"a child of multiprocessing ended with {process.exitcode}")
    process.kill()
    process.join()


def _by_multiprocessing(store: SQLAlchemyCheckpointStore, told: Path) -> None:
    asyncio.run(_use_inherited(store, told))


async def _use_inherited(store: SQLAlchemyCheckpointStore, told: Path) -> None:
    """Every call of the parent's store, and its close."""
    for name, call in {**WRITES, **READS}.items():
        began = time.perf_counter()
        try:
            found = repr(await call(store))
        except Exception as error:  # noqa: BLE001 - it is told
            found = type(error).__name__
            if "forked" not in str(error):
                found = repr(error)
        append(told, f"refused|{name}|{found}|{time.perf_counter() - began}")
    await store.close()
    gc.collect()


async def _open_another(place: Place, told: Path) -> None:
    """A store of the child's own: works, or is refused for the locks that SQLite would take for granted."""
    began = time.perf_counter()
    async with SQLAlchemyCheckpointStore(place.url) as store:
        try:
            name = f"child-{os.getpid()}"
            await store.save_checkpoint(state_of(name, 1))
            found = "works" if await store.load_checkpoint(name) == state_of(name, 1) else "wrong"
        except StoreConfigurationError as error:
            found = "refused" if "forked" in str(error) else repr(error)
    append(told, f"opened|own|{found}|{time.perf_counter() - began}")


def _collect() -> None:
    for _ in range(3):
        gc.collect()


async def _try_to_lock_all(url: str, told: Path) -> None:
    """Another process finds the parent's locks where they were: nobody but the last one may leave WAL."""
    with contextlib.closing(sqlite3.connect(url, timeout=0.1)) as file:
        try:
            mode = file.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
        except sqlite3.OperationalError:
            mode = "wal"
    append(told, f"locks|{mode}|{mode}|0")


def _read_what_was_told(place: Place, verdict: Verdict) -> None:
    expected = "works" if place.database == "postgresql" else "refused"
    kinds = set()
    for line in (place.folder / "told").read_text().splitlines():
        kind, name, found, seconds = line.split("|")
        kinds.add(kind)
        if kind == "refused":
            verdict.require(found == "StoreConfigurationError", f"{name} in a child: {found}")
            verdict.figures["refused in children"] = int(str(verdict.figures["refused in children"])) + 1
            _worst(verdict, "worst refusal s", float(seconds))
        elif kind == "opened":
            verdict.require(found == expected, f"a store of the child's own: {found}")
        else:
            verdict.require(found == "wal", "the parent's lock on its file was lost")
    wanted = {"refused", "opened"} | ({"locks"} if place.database == "sqlite" else set())
    verdict.require(kinds == wanted, f"children told only of {kinds}")


def _worst(verdict: Verdict, figure: str, seconds: float) -> None:
    verdict.figures[figure] = max(float(str(verdict.figures[figure])), round(seconds, 3))
    verdict.require(seconds < _MOST_SECONDS, f"{figure}: {seconds:.2f}")


_PROGRAM = """\
import asyncio, gc, os, sys, warnings
from tests.faults.load import state_of
from workflows_mcp import SQLAlchemyCheckpointStore

loop = asyncio.new_event_loop()
store = SQLAlchemyCheckpointStore(sys.argv[1])
states = [state_of(f"p-{number}", number) for number in range(20)]

async def save():
    await asyncio.wait_for(asyncio.gather(*map(store.save_checkpoint, states)), 5)
    found = [await asyncio.wait_for(store.load_checkpoint(state.checkpoint_id), 5) for state in states]
    assert found == states, "the parent loads something else"
    await asyncio.wait_for(store.list_checkpoints(), 5)

loop.run_until_complete(save())
pid = os.fork()
if pid == 0:
    # All that the interpreter clears away at its end, the parent's event loop included, which nobody has closed here.
    warnings.simplefilter("ignore")
    del store, loop
    gc.collect()
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0, "the child failed"
for _ in range(5):
    loop.run_until_complete(save())
loop.run_until_complete(store.close())
print("parent unharmed")
"""


async def _child_ends_as_an_interpreter_does(place: Place, verdict: Verdict) -> None:
    """Not by `os._exit`, as children mostly do."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, place.url, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        answer, _ = await asyncio.wait_for(program.communicate(), 2 * _SECONDS_TO_HANG)
    except TimeoutError:
        program.kill()
        await program.wait()
        verdict.broken.append("a child that ended as an interpreter does, or its parent, hung")
        return
    verdict.require(answer.decode().strip() == "parent unharmed", f"a child that ended: {answer.decode()[-600:]}")
    verdict.figures["forks"] = int(str(verdict.figures["forks"])) + 1


# --- other event loops


async def _other_loops(place: Place, verdict: Verdict) -> None:
    """A typed error for the first one's store, and correct work with one of its own."""

    async def use(store: SQLAlchemyCheckpointStore) -> list[str]:
        found = []
        for name, call in {**WRITES, **READS}.items():
            began = time.perf_counter()
            try:
                found.append(f"{name}: {await call(store)!r}")
            except StoreConfigurationError as error:
                verdict.require("another event loop" in str(error), f"{name} in another event loop: {error}")
            except Exception as error:  # noqa: BLE001 - it is what was found
                found.append(f"{name}: {error!r}")
            _worst(verdict, "worst refusal s", time.perf_counter() - began)
        return found

    async def work() -> bool:
        async with SQLAlchemyCheckpointStore(place.url) as own:
            await own.save_checkpoint(state_of("thread", 1))
            return await own.load_checkpoint("thread") == state_of("thread", 1)

    async with SQLAlchemyCheckpointStore(place.url) as store:
        await make_ready(store)
        # Beside calls under way here, whose turns a call of another loop must not wait for.
        busy = asyncio.create_task(_save(store, "busy", Acknowledged(place.folder / "busy")))
        renewing = asyncio.create_task(store.renew_lease("renewed", "owner", 60))
        await asyncio.sleep(0)
        for found in await asyncio.to_thread(lambda: asyncio.run(use(store))):
            verdict.broken.append(f"in another event loop: {found}")
        verdict.require(await asyncio.to_thread(lambda: asyncio.run(work())), "a thread with a store of its own fails")
        await renewing
        busy.cancel()
        await asyncio.wait({busy})
        await _parents_calls(store, verdict)
        # Closed elsewhere, it is closed here.
        began = time.perf_counter()
        await asyncio.to_thread(lambda: asyncio.run(store.close()))
        _worst(verdict, "worst refusal s", time.perf_counter() - began)


ROW = Row(
    fault="fork, second event loop, thread",
    promise="At once a typed error or correct work; the parent goes on unharmed, and nothing hangs.",
    check=check,
)
