"""Runs a harness in a process of its own, so that one that hangs or crashes is a verdict like any other."""

import asyncio
import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from tests.faults.databases import fresh_databases
from tests.faults.row import Effort, Place, Row, Verdict, timed
from tests.faults.rows import row_named

__all__ = ["Servers", "run_row"]

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.faults.rows"])


class Servers:
    """Empty databases, one for each harness.

    Args:
        postgresql: The URL of a server's maintenance database.
    """

    def __init__(self, postgresql: str) -> None:
        self._postgresql = postgresql
        self._number = 0

    @contextmanager
    def place(self, database: str) -> Iterator[Place]:
        """An empty database and an empty folder; both are gone afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="fault-"))
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
    with fresh_databases("postgresql") as urls:
        yield Servers(urls["postgresql"])


async def _administer(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def run_row(row: Row, place: Place, effort: Effort) -> Verdict:
    """Run a harness; what it found, or how it ended instead."""
    ours, theirs = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=_work, args=(row.fault, place, effort, theirs))
    process.start()
    theirs.close()
    seconds = row.seconds / effort.of(1, 4)
    try:
        if not ours.poll(seconds):
            return Verdict({}, [f"it hung: nothing was found within {seconds:g} s"], seconds)
        with contextlib.suppress(EOFError):
            found = ours.recv()
            assert isinstance(found, Verdict)
            return found
        process.join(5)
        return Verdict({}, [f"its process ended with exit code {process.exitcode}"])
    finally:
        if process.pid is not None and process.exitcode is None:
            process.join(5)
            with contextlib.suppress(ProcessLookupError):  # with all that it has started and left behind
                os.killpg(process.pid, signal.SIGKILL)
        process.join()
        ours.close()


def _work(fault: str, place: Place, effort: Effort, found: Connection) -> None:
    os.setsid()
    try:
        verdict = asyncio.run(timed(row_named(fault).check(place, effort)))
    except BaseException:  # noqa: BLE001 - whatever it is, it is what was found
        verdict = Verdict({}, [f"it raised an error:\n{traceback.format_exc()}"])
    found.send(verdict)
