"""Kills a worker at random moments of the demo's workflow, recovers the run, and looks for work done twice.

The quick version runs with the tests; the long one on both databases, at 20 moments each:
`python3 run.py python -m tests.faults.kill --rounds 20`.
"""

import argparse
import asyncio
import contextlib
import functools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.faults.databases import add_option, on_each
from workflows_mcp import CheckpointState, SQLAlchemyCheckpointStore, WorkflowExecutor, upgrade_schema
from workflows_mcp.engine.checkpoint import CheckpointStatus

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "release-check.yaml"

_LEASE_SECONDS = 2
"""Of the workers: nobody may go on with their runs earlier."""


@dataclass
class Report:
    """What a series of kills showed.

    Attributes:
        rounds: How often a worker was started.
        killed: How often it was killed before it was done.
        waves: At which wave it was killed, by how often.
        blocks_saved: Blocks that the newest checkpoint held as done, all rounds together.
        ran_twice: Those of them that ran again, as round:block; must stay empty.
        failures: Runs that did not complete; must stay empty.
    """

    rounds: int = 0
    killed: int = 0
    waves: Counter[int] = field(default_factory=Counter)
    blocks_saved: int = 0
    ran_twice: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        waves = ", ".join(f"{wave}: {count}" for wave, count in sorted(self.waves.items()))
        return (
            f"{self.rounds} rounds, {self.killed} killed before the end (at wave {waves}), {self.blocks_saved} blocks "
            f"done in checkpoints, {len(self.ran_twice)} ran twice, {len(self.failures)} runs did not complete"
        )


def journaled(folder: Path, journal: Path) -> Path:
    """The demo's workflow, with a line in a journal at the start of every block."""
    definition: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    for block in definition["blocks"]:
        if block["type"] == "Shell":
            inputs = block["inputs"]
            inputs["command"] = f"echo {block['id']} >> '{journal}'\n{inputs['command']}"
    path = folder / "journaled.yaml"
    path.write_text(yaml.safe_dump(definition, sort_keys=False))
    return path


async def newest(store: SQLAlchemyCheckpointStore, run_id: str) -> CheckpointState | None:
    """The run's newest checkpoint."""
    listed = await store.list_checkpoints(run_id=run_id, limit=1)
    return await store.load_checkpoint(listed[0].checkpoint_id) if listed else None


async def run_command(*words: str) -> tuple[int, dict[str, Any]]:
    """Run the product's command to its end; its exit code and the object that it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "workflows_mcp",
        *words,
        "--json",
        env=_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(printed) if printed else {"error": errors.decode()}


def _environment() -> dict[str, str]:
    return {**os.environ, "WORKFLOWS_LEASE_SECONDS": str(_LEASE_SECONDS)}


async def kill_one(url: str, target: Path, moment: float, report: Report, *, from_wave: int = 0) -> float:
    """One round: start a worker, kill it, recover the run, answer, compare.

    Args:
        url: A database at head.
        target: The folder that the workflow looks at.
        moment: Seconds between the checkpoint from which time counts and the kill.
        report: Takes what is found.
        from_wave: That checkpoint is the first one after so many waves.

    Returns:
        How many seconds the worker had worked from that checkpoint on.
    """
    report.rounds += 1
    run_id = f"round-{report.rounds}"
    folder = Path(tempfile.mkdtemp())
    journal = folder / "journal"
    workflow = journaled(folder, journal)
    options = ("--database-url", url)
    async with SQLAlchemyCheckpointStore(url) as store:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "workflows_mcp", "run", str(workflow), "--run-id", run_id),
            *("--input", f"path={target}", "--json", *options),
            env=_environment(),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        while (head := await newest(store, run_id)) is None or head.current_wave_index < from_wave:
            assert worker.returncode is None, "the worker ended before that checkpoint"
            await asyncio.sleep(0.01)
        started = time.perf_counter()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(moment):
                await worker.wait()
        if worker.returncode is None:
            worker.send_signal(signal.SIGKILL)
            await worker.wait()
        worked = time.perf_counter() - started
        left = await newest(store, run_id)
        assert left is not None
        if left.status is CheckpointStatus.RUNNING:
            report.killed += 1
            report.waves[left.current_wave_index] += 1
        # The blocks that were under way are the dead worker's children; they end by themselves, soon.
        await _until_quiet(journal)
        before = Counter(journal.read_text().split()) if journal.exists() else Counter()
        code, result = await run_command("recover", run_id, *options)
        if result.get("status") == "paused":
            answered = await WorkflowExecutor(store).resume_workflow(result["checkpoint_id"], "approve")
            if not answered.is_success:
                report.failures.append(f"{run_id}: {answered.error}")
        else:
            report.failures.append(f"{run_id}: recover ended with {code}: {result}")
        after = Counter(journal.read_text().split())
        done = [block for block in left.completed_blocks if left.context["blocks"][block]["status"] == "succeeded"]
        report.blocks_saved += len(done)
        report.ran_twice += [f"{run_id}:{block}" for block in done if after[block] != before[block]]
    shutil.rmtree(folder)
    return worked


async def _until_quiet(journal: Path) -> None:
    """Wait until no process that an earlier worker started holds its folder."""
    marker = str(journal.parent)
    while any(marker in command for command in _commands()):
        await asyncio.sleep(0.02)


def _commands() -> list[str]:
    commands = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                commands.append((entry / "cmdline").read_bytes().decode(errors="replace"))
    return commands


async def kill_soon(url: str, wave: int) -> Report:
    """Kill one worker, a moment after it has finished so many waves."""
    await upgrade_schema(url)
    report = Report()
    with _target() as target:
        await kill_one(url, target, 0.05, report, from_wave=wave)
    return report


@contextlib.contextmanager
def _target() -> Iterator[Path]:
    """A folder with sources that the workflow looks at."""
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    yield folder
    shutil.rmtree(folder)


async def kill_many(url: str, rounds: int, *, seed: int) -> Report:
    """Kill a worker at random moments, spread over how long the workflow takes; prints each round."""
    await upgrade_schema(url)
    report = Report()
    chance = random.Random(seed)
    with _target() as target:
        whole = await kill_one(url, target, 60.0, Report(rounds=10_000))  # not killed: tells how long it takes
        for _ in range(rounds):
            await kill_one(url, target, chance.uniform(0, whole), report)
            print(f"  {report}", file=sys.stderr, flush=True)
    return report


def main() -> int:
    """Run the long version; 0 when nothing was lost or done twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    add_option(parser)
    given = parser.parse_args()
    reports = on_each(given.database, functools.partial(kill_many, rounds=given.rounds, seed=given.seed))
    for name, report in reports.items():
        print(f"{name}: {report}", flush=True)
    return 1 if any(report.ran_twice or report.failures for report in reports.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
