"""Kills a worker at random moments of the demo's workflow, recovers the run, and looks for work done twice."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.faults.crew import join, start_command
from tests.faults.row import Effort, Place, Row, Verdict
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

    def verdict(self) -> Verdict:
        """All of it."""
        verdict = Verdict(
            {
                "rounds": self.rounds,
                "killed before the end": self.killed,
                "at waves": "/".join(str(self.waves[wave]) for wave in range(max(self.waves, default=0) + 1)),
                "blocks done": self.blocks_saved,
                "done twice": len(self.ran_twice),
                "not completed": len(self.failures),
            },
            [*self.ran_twice, *self.failures],
        )
        verdict.require(self.blocks_saved, "no checkpoint held a block as done")
        return verdict


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
    with tempfile.TemporaryDirectory() as name:
        files = Path(name, "out"), Path(name, "err")
        code = await join(start_command([*words, "--json"], _environment(), *files))
        printed, errors = (file.read_text() for file in files)
    return code, json.loads(printed) if printed else {"error": errors}


def _environment() -> dict[str, str]:
    return {**os.environ, "WORKFLOWS_LEASE_SECONDS": str(_LEASE_SECONDS)}


async def kill_one(url: str, target: Path, moment: float, report: Report) -> float:
    """One round: start a worker, kill it, recover the run, answer, compare.

    Args:
        url: A database at head.
        target: The folder that the workflow looks at.
        moment: Seconds between the first checkpoint and the kill.
        report: Takes what is found.

    Returns:
        How many seconds the worker had worked from its first checkpoint on.
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
        while await newest(store, run_id) is None:
            assert worker.returncode is None, "the worker ended before its first checkpoint"
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


async def check(place: Place, effort: Effort) -> Verdict:
    """Kill a worker at random moments, spread over how long the workflow takes."""
    await upgrade_schema(place.url)
    report = Report()
    chance = effort.chance()
    target = Path(shutil.copytree(ROOT / "src", place.folder / "src", ignore=shutil.ignore_patterns("__pycache__")))
    whole = await kill_one(place.url, target.parent, 60.0, Report(rounds=10_000))  # not killed: tells how long it takes
    for _ in range(effort.of(8, 1)):
        await kill_one(place.url, target.parent, chance.uniform(0, whole), report)
    return report.verdict()


ROW = Row(
    fault="worker of the demo killed",
    promise="`recover` goes on with the run, and no block that a checkpoint holds as done runs twice.",
    check=check,
)
