"""Checkpoints on their way: SQLite -> PostgreSQL -> SQLite -> a file -> SQLite, by the commands that people use.

Each step is a process of its own, whose rate and peak memory are its own, too.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.databases import open_databases
from benchmarks.states import SIZES, Shape, StateSource
from workflows_mcp import CheckpointState, SQLAlchemyCheckpointStore, upgrade_schema
from workflows_mcp.engine.stored import StoredCheckpoint

__all__ = ["Step", "report", "travel"]

_BATCH = 500

_COMMAND = """
import sys
from benchmarks.memory import peak_bytes
from workflows_mcp.cli import main
try:
    main()
finally:
    sys.stdout.flush()
    print(peak_bytes(), file=sys.stderr)
"""
"""Runs the command line, and tells the peak of its memory in the last line on stderr."""


class StepError(Exception):
    """A command failed; the text is what it said."""


@dataclass(frozen=True)
class Step:
    """What a command did.

    Attributes:
        name: What it was.
        count: How many checkpoints.
        seconds: How long it took by its own account, without starting Python.
        peak_bytes: The most memory that its process held.
        digest: The digest that it told.
    """

    name: str
    count: int
    seconds: float
    peak_bytes: int
    digest: str

    @property
    def rate(self) -> float:
        """Checkpoints a second."""
        return self.count / self.seconds


def travel(rows: int, folder: Path | None = None) -> Iterator[Step]:
    """Make so many checkpoints of 1 KB, and send them on their way; the steps come as they are done.

    Args:
        rows: How many.
        folder: Where databases and files are put; None: where the system keeps temporary ones.

    Raises:
        StepError: A command failed.
    """
    with open_databases("sqlite", folder) as files, open_databases("postgresql", folder) as servers:
        first, second, third = (files.create(name) for name in ("first", "second", "third"))
        server = servers.create("transfer")
        asyncio.run(_make(first, server, rows))
        exported = str(Path(first).with_name("first.jsonl.zst"))
        again = str(Path(first).with_name("again.jsonl.zst"))
        yield _step("copy SQLite -> PostgreSQL", "copy", first, server)
        yield _step("copy PostgreSQL -> SQLite", "copy", server, second)
        yield _step("export of the first SQLite file", "export", exported, "--database-url", first)
        yield _step("export of the second SQLite file", "export", again, "--database-url", second)
        yield _step("import into a third SQLite file", "import", again, "--database-url", third)
        yield _step("export from PostgreSQL", "export", again, "--overwrite", "--database-url", server)


def _step(name: str, *words: str) -> Step:
    command = [sys.executable, "-c", _COMMAND, "checkpoints", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode != 0:
        raise StepError(f"{name}: {done.stderr}")
    told: dict[str, Any] = json.loads(done.stdout)
    return Step(name, told["count"], told["seconds"], int(done.stderr.splitlines()[-1]), told["digest"])


async def _make(path: str, server: str, rows: int) -> None:
    """Save checkpoints of runs: history, of each run a head, some of them abandoned, and here and there a pin."""
    await upgrade_schema(path)
    await upgrade_schema(server)
    source = StateSource(Shape(SIZES["1kb"], SIZES["1kb"], paused_every=0))
    async with SQLAlchemyCheckpointStore(path) as store:
        made = 0
        while made < rows:
            states = source.take(min(_BATCH, rows - made))
            await store.write_stored([_placed(state, number) for number, state in enumerate(states, start=made)])
            made += len(states)


def _placed(state: CheckpointState, number: int) -> StoredCheckpoint:
    is_history = number % StateSource.checkpoints_per_run != 0
    ended = None if is_history or number % 3 else state.created_at
    return StoredCheckpoint(state, pinned=number % 1000 == 0, superseded=is_history, lease_ended_at=ended)


def report(steps: Iterator[Step]) -> tuple[str, bool]:
    """A table of the steps, and whether all of them told the same digest."""
    done = list(steps)
    lines = [f"{'':<34}{'checkpoints':>12}{'seconds':>10}{'a second':>10}{'peak MB':>9}"]
    lines += [
        f"{step.name:<34}{step.count:>12,}{step.seconds:>10.1f}{step.rate:>10,.0f}{step.peak_bytes / 1e6:>9.0f}"
        for step in done
    ]
    digests = {step.digest for step in done}
    agrees = len(digests) == 1
    lines.append(f"\n{'one digest: ' + digests.pop() if agrees else 'THE DIGESTS DIFFER'}\n")
    return "\n".join(lines), agrees
