"""What an examination tells of a SQLite file and of its place, and that it leaves both as they were."""

import asyncio
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tests.conftest import OpenStore
from tests.migrations import raw
from tests.persistence.examined import examined, lead_in_circles, problems, signs
from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.persistence.checks import Report
from workflows_mcp.persistence.dialects import file_system, sqlite_health, sqlite_limits
from workflows_mcp.persistence.dialects.file_system import mount_of, read_mounts
from workflows_mcp.persistence.health import Verdict
from workflows_mcp.settings import Settings
from workflows_mcp.testing import make_state

MOUNTS = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 0:25 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24684084k
41 27 0:40 / /mnt/data rw,relatime shared:61 - nfs4 10.0.0.7:/export rw,vers=4.2,rsize=1048576,hard,proto=tcp
42 27 0:41 / /mnt/win\\040share rw,relatime shared:62 - cifs //nas/win\\040share rw,vers=3.1.1,username=u
43 27 0:42 / /mnt/c rw,noatime - 9p drvfs rw,dirsync,aname=drvfs;path=C:\\;uid=1000,trans=fd,rfd=8,wfd=8
44 27 0:43 / /srv/u/remote rw,nosuid,nodev,relatime shared:63 - fuse.sshfs u@host:/ rw,user_id=1000,group_id=1000
45 41 0:44 / /mnt/data/local rw,relatime - xfs /dev/vdb rw
46 27 0:45 / /media/stick rw,relatime shared:70 - fuseblk /dev/sdb1 rw,user_id=0,group_id=0
47 27 0:46 / /host rw,relatime - virtiofs host rw
48 27 0:47 / /run/secrets/x rw - fuse.unheard-of x rw
49 27 0:48 / /over rw,relatime - ext4 /dev/vdc rw
50 49 0:49 / /over rw,relatime - nfs server:/over rw,vers=3
"""
"""Lines as kernels write them, of machines with file systems of many sorts."""


@pytest.fixture
def path(tmp_path: Path, sqlite_template: Path) -> Path:
    """A file at head, alone in a folder, that only its owner may read."""
    folder = tmp_path / "place"
    folder.mkdir()
    path = folder / "head.db"
    path.write_bytes(sqlite_template.read_bytes())
    path.chmod(0o600)
    return path


@contextmanager
def using(path: Path, *statements: str, begun_by: str = "") -> Iterator[int]:
    """While another process, of this id, has the file open: in a transaction, in which it ran some statements.

    Args:
        path: The file.
        statements: What it runs.
        begun_by: Python code that it runs before.
    """
    code = (
        f"{begun_by}\n"
        "import sqlite3, sys; file = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for one in sys.argv[2:]: file.execute(one)\n"
        "print(1, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path), "BEGIN IMMEDIATE", *statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == b"1\n"
        yield user.pid
        user.communicate()


def obey(advice: str) -> None:
    """Run the command that an advice consists of."""
    subprocess.run(advice, shell=True, check=True)


async def test_a_file_that_nobody_uses_stays_as_it_is_with_nothing_beside_it(path: Path) -> None:
    """Neither a byte of it, nor its time, nor a -wal or -shm file, which reading it creates otherwise."""
    before = signs(path.parent)
    found = await examined(str(path))
    assert problems(found) == set()
    assert found["journal mode"].found.startswith("WAL")
    assert found["-wal file"].found == "there is none"
    assert signs(path.parent) == before


async def test_a_file_in_use_is_read_with_what_is_in_its_wal_file(path: Path) -> None:
    """What another process committed counts; that process is named."""
    with using(path, "DROP INDEX ix_checkpoints_run_id", "COMMIT") as pid:
        before = signs(path.parent)
        found = await examined(str(path))
        assert signs(path.parent).keys() == before.keys()
        assert signs(path.parent)["head.db"] == before["head.db"]
        assert signs(path.parent)["head.db-wal"] == before["head.db-wal"]
    assert len(before) == 3
    assert problems(found) == {"table"}
    assert f"({pid})" in found["used by"].found
    assert "KiB" in found["-wal file"].found


async def test_what_a_crashed_process_left_in_a_wal_file_stays_there(path: Path) -> None:
    """It is read, and neither lost nor put into the file."""
    with using(path, "DROP INDEX ix_checkpoints_run_id", "COMMIT") as pid:
        os.kill(pid, signal.SIGKILL)
    before = signs(path.parent)
    assert "head.db-wal" in before
    assert problems(await examined(str(path))) == {"table"}
    for name in ("head.db", "head.db-wal"):
        assert signs(path.parent)[name] == before[name]


async def test_a_file_that_is_written_while_it_is_read_is_read_again(path: Path) -> None:
    """What was found is of one state of it."""
    turns = []

    def look(connection: Connection, report: Report) -> None:
        turns.append(connection.exec_driver_sql("SELECT count(*) FROM checkpoints").scalar_one())
        if len(turns) == 1:
            with using(path, "CREATE TABLE more (a)", "COMMIT"):
                pass
        report.ok("turn", str(len(turns)))

    report = Report()
    await asyncio.to_thread(sqlite_health.SQLiteHealth(path, "", Settings(), report).examine, look, deep=False)
    assert [one.found for one in report.checks if one.check == "turn"] == ["2"]
    assert len([one for one in report.checks if one.check == "integrity"]) == 1


async def test_a_file_that_is_not_in_wal_mode_is_not_turned(path: Path) -> None:
    """It is told; the next store turns it."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA journal_mode = DELETE")
    before = signs(path.parent)
    found = await examined(str(path))
    assert found["journal mode"].verdict is Verdict.NOTICE
    assert problems(found) == set()
    assert signs(path.parent) == before


def examined_by_somebody_else(template: Path, mode: int, folder_mode: int = 0o755) -> list[str]:
    """What is told to a user whom a file's mode binds, as it does no root; `PATH` stands for the file.

    The child process becomes that user once it has imported everything.
    """
    folder = Path(tempfile.mkdtemp())
    path = Path(shutil.copy(template, folder / "x.db"))
    code = """if True:
        import asyncio, os, sys
        from workflows_mcp.persistence.health import examine
        asyncio.run(examine(sys.argv[1]))
        os.chmod(sys.argv[1], int(sys.argv[2]))
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        for one in asyncio.run(examine(sys.argv[1])):
            print(one.verdict, one.check, one.found)"""
    folder.chmod(folder_mode)
    try:
        child = subprocess.run(
            [sys.executable, "-c", code, path, str(mode)], capture_output=True, text=True, check=False
        )
    finally:
        shutil.rmtree(folder)
    assert child.returncode == 0, child.stderr
    return child.stdout.replace(repr(str(path)), "PATH").splitlines()


def test_a_file_that_may_not_be_read_is_a_finding(sqlite_template: Path) -> None:
    """All that can be known without is told."""
    told = examined_by_somebody_else(sqlite_template, 0o000)
    assert [line for line in told if line.startswith("problem")] == [
        "problem rights this user may not write the file",
        "problem answers SQLite database PATH cannot be opened",
    ]
    assert any(line.startswith("notice journal mode not known") for line in told)


def test_a_file_that_may_only_be_read_is_a_finding(sqlite_template: Path) -> None:
    """Nothing can be saved there; all else is in order."""
    told = examined_by_somebody_else(sqlite_template, 0o440 if os.getuid() else 0o444)
    problems = [line for line in told if line.startswith("problem")]
    assert "problem rights this user may not write the file" in problems
    assert all(line.startswith(("problem rights", "problem mode")) for line in problems)


async def test_without_the_header_all_else_is_looked_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no program can be run that reads it; the file stays alone all the same."""
    monkeypatch.setenv("PATH", "")
    before = signs(path.parent)
    found = await examined(str(path))
    assert problems(found) == set()
    assert found["journal mode"].verdict is Verdict.NOTICE
    assert found["integrity"].verdict is Verdict.OK
    assert signs(path.parent) == before


async def test_who_may_read_the_file_is_told_and_the_advice_mends_it(path: Path) -> None:
    """Anybody: a problem. Its group: a notice."""
    path.chmod(0o644)
    found = await examined(str(path))
    assert problems(found) == {"mode"}
    obey(found["mode"].advice)
    assert (await examined(str(path)))["mode"].verdict is Verdict.OK
    path.chmod(0o640)
    assert (await examined(str(path)))["mode"].verdict is Verdict.NOTICE
    path.parent.chmod(0o777)
    assert problems(await examined(str(path))) == {"folder"}


async def test_a_second_name_of_the_file_is_a_problem(path: Path) -> None:
    """By its other name its -wal file would be missing."""
    os.link(path, path.parent / "other.db")
    found = await examined(str(path))
    assert problems(found) == {"links"}
    assert "2 names" in found["links"].found


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: (path.unlink(), path.mkdir()), "is not a file"),
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_bytes(b"no database " * 100), "no SQLite database"),
        (lambda path: path.write_bytes(b"short"), "no SQLite database"),
        (lambda path: (path.unlink(), path.parent.rmdir()), "there is no folder"),
    ],
    ids=["missing", "a folder", "empty", "text", "short", "no folder"],
)
async def test_what_is_no_database_is_a_finding(path: Path, make: object, what: str) -> None:
    """And stays what it is."""
    make(path)  # type: ignore[operator] # one of the above
    before = signs(path.parent) if path.parent.is_dir() else None
    found = await examined(str(path))
    assert problems(found) == {"file"}
    assert what in found["file"].found
    assert (signs(path.parent) if path.parent.is_dir() else None) == before


async def test_a_damaged_file_is_a_finding(store_with_rows: Path) -> None:
    """Its pages are overwritten in the middle."""
    size = store_with_rows.stat().st_size
    with store_with_rows.open("r+b") as file:
        file.seek(size // 2)
        file.write(os.urandom(8 * 4096))
    found = await examined(str(store_with_rows), deep=True)
    assert "integrity" in problems(found)
    assert "restore a backup" in found["integrity"].advice


@pytest.fixture
async def store_with_rows(path: Path) -> Path:
    """A file that a store has written some checkpoints to, and closed."""
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        await asyncio.gather(*(store.save_checkpoint(make_state(f"{number}")) for number in range(500)))
    return path


async def test_a_locked_file_is_a_finding_in_time(path: Path) -> None:
    """The lock of one that changes the whole file keeps readers out."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode = DELETE")
        file.execute("BEGIN EXCLUSIVE")
        begun = time.perf_counter()
        found = await examined(str(path), deadline_seconds=0.5)
        assert time.perf_counter() - begun < 2
    assert problems(found) == {"answers"}
    assert "locked by another process" in found["answers"].found


async def test_who_keeps_a_file_locked_that_cannot_be_looked_into_is_named(path: Path) -> None:
    """That is what is to be known of it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode = DELETE")
    with using(path, "COMMIT", "BEGIN EXCLUSIVE") as pid:
        found = await examined(str(path), deadline_seconds=0.5)
    assert problems(found) == {"answers"}
    assert f"({pid})" in found["used by"].found


async def test_a_process_that_keeps_the_write_lock_is_named(path: Path) -> None:
    """Readers do not mind it, and are told why nobody can save."""
    with using(path) as pid:
        found = await examined(str(path))
    assert problems(found) == set()
    assert found["used by"].verdict is Verdict.NOTICE
    assert f"({pid})" in found["used by"].found


async def test_a_weaker_synchronous_level_comes_with_its_price(path: Path) -> None:
    """The file knows none: it is the settings'."""
    found = await examined(str(path), sqlite_synchronous="NORMAL")
    assert found["synchronous"].verdict is Verdict.NOTICE
    assert "296 of 600" in found["synchronous"].found


async def test_a_check_that_takes_too_long_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no problem, and --deep waits for it."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE much (a)")
        file.executemany("INSERT INTO much VALUES (zeroblob(4000))", [()] * 8_000)
        file.commit()
    monkeypatch.setattr(sqlite_health, "_QUICK_CHECK_SECONDS", 0.0)
    monkeypatch.setattr(sqlite_limits, "_SECONDS_BETWEEN_INTERRUPTS", 0.001)
    found = await examined(str(path))
    assert problems(found) == set()
    assert found["integrity"].verdict is Verdict.NOTICE
    assert (await examined(str(path), deep=True))["integrity"].verdict is Verdict.OK


async def test_a_file_in_which_a_query_walks_in_circles_is_a_finding_in_time(path: Path) -> None:
    """A count would take years, and is one step to SQLite. All else is looked at."""
    lead_in_circles(path)
    begun = time.perf_counter()
    found = await examined(str(path), deadline_seconds=1)
    assert time.perf_counter() - begun < 15
    assert "integrity" in problems(found)
    assert found["checkpoints"].verdict is Verdict.NOTICE
    assert found["checkpoints"].found == "not known: it takes longer than 1 s"
    assert "payloads" in found
    assert "used by" in found


def test_a_limit_ends_what_begins_after_it_too(path: Path) -> None:
    """And nothing when it was left."""
    endless = "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT count(*) FROM n"
    with closing(sqlite3.connect(path)) as file:
        with sqlite_limits.ended_after(file, 0.1):
            time.sleep(0.2)
            for _ in range(3):
                with pytest.raises(sqlite3.OperationalError, match="interrupted"):
                    file.execute(endless)
        assert file.execute("SELECT count(*) FROM checkpoints").fetchall() == [(0,)]


async def test_a_file_is_read_whole_by_a_link_to_it(path: Path) -> None:
    """The files beside it are named after it, and not after the link."""
    link = path.parent.parent / "link.db"
    link.symlink_to(path)
    async with SQLAlchemyCheckpointStore(str(link)) as store:
        for number in range(3):
            await store.save_checkpoint(make_state(f"{number}"))
        with using(path) as pid:
            found = await examined(str(link))
    assert problems(found) == set()
    assert found["checkpoints"].found.startswith("3,")
    assert "KiB" in found["-wal file"].found
    assert f"({pid})" in found["used by"].found
    assert str(link) in found["database"].found


async def test_a_link_that_leads_nowhere_is_a_finding(path: Path) -> None:
    """What would create the file is told by its own name: none is created through a link."""
    link = path.parent / "link.db"
    link.symlink_to("missing.db")
    found = await examined(str(link))
    assert problems(found) == {"file"}
    assert found["file"].advice == f"create it: workflows-mcp db upgrade --database-url {path.parent / 'missing.db'}"
    link.unlink()
    link.symlink_to("link.db")
    found = await examined(str(link))
    assert problems(found) == {"file"}
    assert "cannot be looked at" in found["file"].found


async def test_text_that_is_no_utf8_is_damage_of_its_row_alone(path: Path) -> None:
    """All rows are looked at, over several pages; those that cannot be loaded are named."""
    states = (make_state(f"{number:04}", created_at=float(number)) for number in range(1_100))
    async with SQLAlchemyCheckpointStore(str(path)) as store:
        await asyncio.gather(*map(store.save_checkpoint, states))
    with closing(sqlite3.connect(path)) as file:
        file.execute("UPDATE checkpoints SET checkpoint_id = CAST(x'6180' AS TEXT) WHERE checkpoint_id = '0099'")
        file.execute("UPDATE checkpoints SET checkpoint_id = x'6263' WHERE checkpoint_id = '0600'")
        file.execute("UPDATE checkpoints SET run_id = CAST(x'ff' AS TEXT) WHERE checkpoint_id = '1099'")
        file.execute("UPDATE checkpoints SET checkpoint_id = printf('%.*c', 5000, 'i') WHERE checkpoint_id = '0001'")
        file.commit()
    assert problems(await examined(str(path))) == set()
    found = await examined(str(path), deep=True)
    assert problems(found) == {"payloads"}
    assert found["payloads"].found.startswith("of all 1,100, 3 cannot be read: b'bc', 'a\\udc80', 'iii")
    assert len(found["payloads"].found) < 200


async def test_the_connections_of_a_store_are_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many for a process, or so few that they wait for one another: there is something to know."""
    monkeypatch.setattr(sqlite_health, "_most_open_files", lambda: 256)
    found = await examined(str(path))
    assert found["connections"].verdict is Verdict.OK
    assert "opens up to 12 " in found["connections"].found
    for size in (1, 500):
        found = await examined(str(path), pool_size=size)
        assert problems(found) == set()
        assert found["connections"].verdict is Verdict.NOTICE


async def test_a_process_with_a_name_that_is_no_text_is_named_all_the_same(path: Path) -> None:
    """Any bytes can be the name of one."""
    with using(path, begun_by="open('/proc/self/comm', 'wb').write(bytes([255, 254]))") as pid:
        found = await examined(str(path))
    assert f"({pid})" in found["used by"].found


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_versions_with_the_reset_bug_are_known(version: tuple[int, int, int], *, has_it: bool) -> None:
    """Two older branches got the correction, too."""
    assert sqlite_health.has_reset_bug(version) is has_it


@pytest.mark.parametrize(
    ("path", "kind", "is_shared"),
    [
        ("/srv/u/a.db", "ext4", False),
        ("/mnt/data/a.db", "nfs4", True),
        ("/mnt/data/local/a.db", "xfs", False),
        ("/mnt/database/a.db", "ext4", False),
        ("/mnt/win share/deep/a.db", "cifs", True),
        ("/mnt/c/a.db", "9p", True),
        ("/srv/u/remote/a.db", "fuse.sshfs", True),
        ("/media/stick/a.db", "fuseblk", False),
        ("/host/a.db", "virtiofs", True),
        ("/run/secrets/x/a.db", "fuse.unheard-of", True),
        ("/over/a.db", "nfs", True),
    ],
)
def test_the_file_system_of_a_path_is_found_among_the_mounts(path: str, kind: str, *, is_shared: bool) -> None:
    """The innermost, and of two at one place the later one."""
    mount = mount_of(Path(path), MOUNTS)
    assert mount is not None
    assert (mount.kind, mount.is_shared) == (kind, is_shared)


def test_the_file_system_of_this_test_is_found(tmp_path: Path) -> None:
    """The kernel's own text, and through a link; without a text nothing is known."""
    found = subprocess.run(["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True).stdout
    mount = mount_of(tmp_path, read_mounts())
    assert mount is not None
    assert mount.kind.removeprefix("fuse.") in found.replace("ext2/ext3", "ext4").replace("overlayfs", "overlay")
    (tmp_path / "link").symlink_to("/mnt/data")
    assert mount_of(tmp_path / "link" / "a.db", MOUNTS) == file_system.Mount("/mnt/data", "nfs4")
    assert mount_of(tmp_path, "") is None


async def test_a_network_file_system_is_a_problem_and_a_warning_for_each_store(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, open_network_store: OpenStore
) -> None:
    """Logged once, when a store first uses the file; the age of SQLite is no warning."""
    caplog.set_level(logging.INFO, "workflows_mcp")
    mounts = f"27 1 254:0 / / rw - ext4 /dev/vda rw\n28 27 0:9 / {path.parent} rw - nfs4 server:/x rw,vers=4.2\n"
    monkeypatch.setattr(file_system, "read_mounts", lambda: mounts)
    assert problems(await examined(str(path))) == {"file system"}
    store = open_network_store(str(path))
    for number in range(3):
        await store.save_checkpoint(make_state(f"{number}"))
        await store.load_checkpoint(f"{number}")
    warnings = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "nfs4" in warnings[0]
    assert str(path) in warnings[0]
    told = [one.getMessage() for one in caplog.records if one.levelno == logging.INFO]
    assert len(told) == sqlite_health.has_reset_bug(sqlite3.sqlite_version_info)


@pytest.fixture
def open_network_store(open_store: OpenStore) -> OpenStore:
    """Opens a store; its database is one test's own."""
    return open_store


@pytest.fixture
def database() -> str:
    """The one database that is a file."""
    return "sqlite"


async def test_a_local_file_system_is_no_reason_for_a_warning(
    open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A store says nothing that need not be said."""
    await open_store().save_checkpoint(make_state("1"))
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


async def test_a_table_of_somebody_elses_making_is_looked_at_without_a_crash(path: Path) -> None:
    """Columns that hold another type than they should are damage."""
    await raw.execute(
        str(path),
        "INSERT INTO checkpoints SELECT 'odd', NULL, 'w', 1.0, 'running', 0, NULL, NULL, 0, 0, 0, 1, NULL, NULL, 1, 1, "
        "NULL, NULL, NULL, 'json', 'text'",
    )
    found = await examined(str(path))
    assert problems(found) == {"payloads"}
    assert "'odd'" in found["payloads"].found
