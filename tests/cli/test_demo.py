"""`workflows-mcp demo`, end to end, with a worker that is really killed; and the example for embedders."""

import asyncio
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import CLI
from workflows_mcp import SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.cli.demo.process import Worker, start_worker

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small folder to inspect, whose name is found nowhere else."""
    folder = tmp_path / "a thing to release"
    folder.mkdir()
    (folder / "README.md").write_text("A thing.\n")
    (folder / "thing.py").write_text("x = 1\n")
    return folder


def processes_in(folder: Path) -> list[str]:
    """The command lines of all processes that work in a folder or below it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_text())
        except OSError:
            pass  # ended meanwhile, or somebody else's
    return found


def test_the_demo_kills_its_worker_and_tells_how_the_run_went_on(cli: CLI, folder: Path, tmp_path: Path) -> None:
    """As lines for a pipe: the kill, what the database knows, the recovery, the answer, the report, the tables."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    outcome = cli("demo", "--path", folder, env={"TMPDIR": str(temporary), "WORKFLOWS_DATABASE_URL": "production.db"})
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert "\x1b" not in outcome.out
    told = outcome.out

    first, second, third = re.findall(r"[Pp]rocess,? (\d+),? (?:runs|recovers|takes)", told)
    assert len({first, second, third}) == 3
    assert f"kill -9 {first}\n" in told
    assert "Saved as done: folder, git_state, files." in told
    assert "The dead process still holds the run, by a lease of 2 s" in told
    assert "None of the 3 blocks that were saved as done ran again." in told
    assert "# Release check of a thing to release" in told
    assert "The demo answers by itself: not ready yet" in told
    assert "**Held back**: not ready yet" in told
    assert re.search(r"^folder +done$", told, re.MULTILINE)
    assert re.search(r"^approval +asked +done$", told, re.MULTILINE)
    assert re.search(r"^\w+ +killed +done$", told, re.MULTILINE)

    # The database that it names is there to be looked at, and the one of the environment was left alone.
    path = re.search(r"database +SQLite database '(.+)'", told)
    assert path is not None
    assert Path(path[1]).is_relative_to(temporary)
    assert f"may be deleted afterwards: {Path(path[1]).parent}\n" in told
    listing = cli("checkpoints", "list", "--json", "--database-url", path[1]).json()["checkpoints"]
    assert [one["status"] for one in listing].count("completed") == 1
    assert len(listing) == 9
    assert not (tmp_path / "production.db").exists()
    assert processes_in(folder) == []


def test_the_same_on_postgresql_as_one_json_object(cli: CLI, folder: Path, postgres_url: str) -> None:
    """The story goes to stderr; the object has the evidence: SIGKILL, and who ran which block."""
    asyncio.run(upgrade_schema(postgres_url))
    words = ("--path", folder, "--response", "needs a license", "--json", "--database-url", postgres_url)
    outcome = cli("demo", *words)
    assert outcome.code == 0, outcome.err
    told = outcome.json()
    assert told["status"] == "success"
    assert "**Held back**: needs a license" in told["outputs"]["report"]

    killed = told["killed"]
    assert killed["signal"] == signal.SIGKILL
    assert killed["blocks"], "blocks were at work when the worker was killed"
    with pytest.raises(ProcessLookupError):
        os.kill(killed["pid"], 0)
    assert told["saved_before_the_kill"] == ["folder", "git_state", "files"]
    for block in told["saved_before_the_kill"]:
        assert list(told["blocks"][block].values()) == ["done"], "it ran once, in the process that was killed"
    for block in killed["blocks"]:
        assert list(told["blocks"][block].values()) == ["killed", "done"]
    assert "kill -9" in outcome.err
    assert processes_in(folder) == []


def test_a_demo_that_is_killed_itself_leaves_no_worker_behind(cli: CLI, folder: Path, tmp_path: Path) -> None:
    """The worker stops, and does not go on to the run's question, when nobody follows it any more."""
    words = ("demo", "--path", folder, "--database-url", "demo.db")
    with cli.start(*words, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "runs the workflow" in line)
        worker = os.pidfd_open(int(re.findall(r"\d+", line)[1]))
        process.kill()
    # A pidfd becomes readable when its process ends.
    ended, _, _ = select.select([worker], [], [], 30)
    os.close(worker)
    assert ended

    async def statuses() -> set[str]:
        async with SQLAlchemyCheckpointStore(str(tmp_path / "demo.db")) as store:
            return {one.status.value for one in await store.list_checkpoints()}

    assert asyncio.run(statuses()) <= {"running"}


async def test_a_worker_that_is_killed_takes_its_commands_along(tmp_path: Path) -> None:
    """The demo leaves nothing behind, however long a command would have gone on by itself."""
    os.mkfifo(tmp_path / "started")
    workflow = tmp_path / "long.yaml"
    command = f"echo $$ > {tmp_path}/started; sleep 600"
    workflow.write_text(f"name: long\nblocks:\n- {{id: a, type: Shell, inputs: {{command: '{command}'}}}}\n")
    await upgrade_schema(str(tmp_path / "runs.db"))
    job: dict[str, object] = {
        "workflow": str(workflow),
        "inputs": {},
        "run_id": "r",
        "env_file": None,
        "lease_seconds": 2,
    }
    async with start_worker(action="run", database_url=str(tmp_path / "runs.db"), **job) as worker:
        following = asyncio.create_task(_follow(worker))
        running = os.pidfd_open(int(await asyncio.to_thread((tmp_path / "started").read_text)))
        await worker.kill()
        await asyncio.gather(following, return_exceptions=True)
    assert worker.signal == signal.SIGKILL
    ended, _, _ = select.select([running], [], [], 30)
    os.close(running)
    assert ended


async def _follow(worker: Worker) -> None:
    async for _ in worker.events():
        pass


def test_the_example_for_embedders_saves_loads_and_lists(tmp_path: Path) -> None:
    """Without an argument it makes a file in the current folder; a second time it finds that one."""
    command = [sys.executable, str(ROOT / "examples" / "embed_store.py")]
    for times in (1, 2):
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        lines = ran.stdout.splitlines()
        assert lines[1] == "loaded True"
        assert len([line for line in lines if line.startswith("listed")]) == times
        assert ran.stderr == ""
    assert (tmp_path / "embed_store.db").is_file()
