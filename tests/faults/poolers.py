"""A real PgBouncer before a server, which may be reloaded, paused and restarted."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from tests.faults.row import SYSTEM_PATH
from tests.faults.servers import Server, data_folder, free_port, system_user, wait_for_port

__all__ = ["Pooler", "new_pooler"]

_CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = md5
auth_file = {folder}/users
admin_users = postgres
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 1000
server_login_retry = 0.2
logfile = {folder}/pgbouncer.log
{more}
"""

_PASSWORD = "of-the-pooler"

_SECONDS_TO_START = 10.0


class Pooler:
    """A PgBouncer in transaction mode that is a child of this process and of its group.

    Attributes:
        port: Of the loopback interface, the same after every start.

    Args:
        folder: For its files.
        server: What it stands before.
        pool_size: How many of the server's connections all clients share.
        more: Lines of its configuration.
    """

    def __init__(self, folder: Path, server: Server, *, pool_size: int, more: str = "") -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "users").write_text(f'"postgres" "{_PASSWORD}"\n')
        (folder / "pgbouncer.ini").write_text(
            _CONFIGURATION.format(
                server_port=server.port, port=self.port, folder=folder, pool_size=pool_size, more=more
            )
        )
        for name in ("users", "pgbouncer.ini"):
            (folder / name).chmod(0o644)

    @property
    def url(self) -> str:
        """Of the server's only database, by way of the pooler."""
        return f"postgresql://postgres:{_PASSWORD}@127.0.0.1:{self.port}/postgres"

    @property
    def url_without_password(self) -> str:
        """The same, for somebody who asks for the password, which is the pooler's: the server asks for none."""
        return self.url.replace(f":{_PASSWORD}@", "@")

    async def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._process = self._launch()
        async with asyncio.timeout(_SECONDS_TO_START):
            while True:
                try:
                    await self.tell("SHOW VERSION")
                except OSError:
                    if self._process.poll() is not None:
                        log = self._folder / "pgbouncer.log"
                        said = log.read_text() if log.exists() else "nothing"
                        raise RuntimeError(f"PgBouncer did not start; it said:\n{said}") from None
                    await asyncio.sleep(0.01)
                else:
                    return

    def _launch(self) -> subprocess.Popen[bytes]:
        program = shutil.which("pgbouncer", path=SYSTEM_PATH)
        assert program is not None
        return subprocess.Popen(
            [program, str(self._folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=system_user(),
            cwd="/",
        )

    async def tell(self, command: str) -> None:
        """A command of its console, such as `PAUSE`."""
        connection = await asyncpg.connect(self.url.removesuffix("postgres") + "pgbouncer", ssl=False)
        try:
            await connection.execute(command)
        finally:
            await connection.close()

    def reload(self) -> None:
        """Have it read its configuration again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End it at once, which ends its clients' connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
            self._process = None
            wait_for_port(self.port)


@asynccontextmanager
async def new_pooler(folder: Path, server: Server, *, pool_size: int = 8, more: str = "") -> AsyncIterator[Pooler]:
    """A PgBouncer, running; it is gone afterwards. For the arguments see `Pooler`."""
    pooler = Pooler(data_folder(folder, "pgbouncer"), server, pool_size=pool_size, more=more)
    try:
        await pooler.start()
        yield pooler
    finally:
        pooler.stop()
