"""Many processes answer the same questions at once: each question has one winner, and no block runs twice.

The quick version runs with the tests; the long one:
`python3 run.py python -m tests.faults.resume --processes 8 --checkpoints 300`.
"""

import argparse
import asyncio
import functools
import json
import random
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.crew import append, join, print_table, start
from tests.faults.databases import add_option, on_each
from workflows_mcp import (
    CheckpointAlreadyClaimedError,
    CheckpointConfig,
    SQLAlchemyCheckpointStore,
    WorkflowExecutor,
    block_type,
    upgrade_schema,
)
from workflows_mcp.engine.blocks import BLOCK_TYPES, BlockContext

ASKING = """\
name: asking
blocks:
  - id: ask
    type: Prompt
    inputs: {prompt: "Go on?"}
  - id: mark
    type: Mark
    depends_on: [ask]
    inputs: {answer: "{{ blocks.ask.outputs.response }}"}
outputs:
  answer: "{{ blocks.mark.outputs.result }}"
"""

AT_ONCE = 8
"""How many questions a process answers at the same time."""


@dataclass
class Report:
    """What came of it.

    Attributes:
        checkpoints: How many questions there were.
        attempts: How often one was answered.
        winners: How many of the answers were taken.
        claimed: How many were told that another one was.
        unanswered: Questions without a winner; must stay empty.
        doubles: Runs whose block after the question began twice, or never; must stay empty.
        wrong: Runs that did not end with the winner's answer as their only head; must stay empty.
        errors: Everything else; must stay empty.
        seconds: How long the processes took together.
    """

    checkpoints: int = 0
    attempts: int = 0
    winners: int = 0
    claimed: int = 0
    unanswered: list[str] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether every promise was kept."""
        return self.winners == self.checkpoints and not (self.unanswered or self.doubles or self.wrong or self.errors)

    @property
    def figures(self) -> dict[str, object]:
        """For people."""
        return {
            "paused checkpoints": self.checkpoints,
            "answers given": self.attempts,
            "answers taken": self.winners,
            "told that it is claimed": self.claimed,
            "questions without a winner": len(self.unanswered),
            "blocks that ran twice or never": len(self.doubles),
            "runs with a wrong end": len(self.wrong),
            "other errors": len(self.errors),
            "seconds": f"{self.seconds:.1f}",
        }


def register_mark(journal: Path) -> None:
    """The block type `Mark` of this process: writes down that it ran, and passes on the answer."""

    async def mark(answer: str, context: BlockContext) -> str:
        append(journal, context.run_id)
        return answer

    BLOCK_TYPES.pop("Mark", None)
    block_type("Mark")(mark)


async def answer_all(url: str, folder: Path, name: str, checkpoints: list[str]) -> None:
    """One process: answer all questions in an order of its own as soon as all others can begin, too."""
    register_mark(folder / "journal")
    random.Random(name).shuffle(checkpoints)
    found: list[tuple[str, str]] = []
    slots = asyncio.Semaphore(AT_ONCE)

    async def answer(executor: WorkflowExecutor, checkpoint_id: str) -> None:
        async with slots:
            try:
                result = await executor.resume_workflow(checkpoint_id, name)
                found.append((checkpoint_id, "won" if result.outputs == {"answer": name} else f"ended with {result}"))
            except CheckpointAlreadyClaimedError:
                found.append((checkpoint_id, "claimed"))
            except Exception:  # noqa: BLE001 - whatever it is, the harness is to know
                found.append((checkpoint_id, traceback.format_exc()))

    async with SQLAlchemyCheckpointStore(url) as store:
        await store.get_stats()  # connects
        executor = WorkflowExecutor(store)
        append(folder / "ready", name)
        while not (folder / "go").exists():
            await asyncio.sleep(0.001)
        async with asyncio.TaskGroup() as answers:
            for one in checkpoints:
                answers.create_task(answer(executor, one))
    (folder / name).write_text(json.dumps(found))


async def resume_all(url: str, *, processes: int, checkpoints: int) -> Report:
    """Have processes answer the same questions.

    Args:
        url: A database.
        processes: How many there are.
        checkpoints: How many questions.
    """
    await upgrade_schema(url)
    report = Report(checkpoints=checkpoints)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        register_mark(folder / "journal")
        async with SQLAlchemyCheckpointStore(url) as store:
            executor = WorkflowExecutor(store, CheckpointConfig(enabled=False))
            asked = await asyncio.gather(*(executor.execute_workflow(ASKING) for _ in range(checkpoints)))
            paused = {one.checkpoint_id: one.run_id for one in asked if one.checkpoint_id is not None}
            names = [f"process-{number}" for number in range(processes)]
            crew = [start(answer_all, url, folder, name, list(paused)) for name in names]
            while len(_lines(folder / "ready")) < processes:
                assert all(one.exitcode is None for one in crew), "a process ended before it had begun"
                await asyncio.sleep(0.005)
            clock = asyncio.get_running_loop().time
            began = clock()
            (folder / "go").touch()
            codes = [await join(one) for one in crew]
            report.seconds = clock() - began
            report.errors += [
                f"{name} ended with exit code {code}" for name, code in zip(names, codes, strict=True) if code
            ]
            winners = _count(folder, names, report)
            report.unanswered = [one for one in paused if one not in winners]
            marks = Counter(_lines(folder / "journal"))
            report.doubles = [run_id for run_id in paused.values() if marks[run_id] != 1]
            for checkpoint_id, run_id in paused.items():
                heads = await store.list_checkpoints(run_id=run_id, heads_only=True)
                ends = [await store.load_checkpoint(head.checkpoint_id) for head in heads]
                outputs = [end.context.get("outputs") for end in ends if end is not None]
                if outputs != [{"answer": winners.get(checkpoint_id)}]:
                    report.wrong.append(run_id)
    return report


def _count(folder: Path, names: list[str], report: Report) -> dict[str, str]:
    """Add up what the processes found; who won each question."""
    winners = {}
    for name in names:
        for checkpoint_id, what in json.loads((folder / name).read_text()) if (folder / name).exists() else ():
            report.attempts += 1
            if what == "won":
                report.winners += 1
                winners[checkpoint_id] = name
            elif what == "claimed":
                report.claimed += 1
            else:
                report.errors.append(what)
    return winners


def _lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def main() -> int:
    """Run the long version; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--checkpoints", type=int, default=300)
    add_option(parser)
    given = parser.parse_args()
    harness = functools.partial(resume_all, processes=given.processes, checkpoints=given.checkpoints)
    reports = on_each(given.database, harness)
    print_table({name: report.figures for name, report in reports.items()})
    for name, report in reports.items():
        for error in report.errors[:5]:
            print(f"{name}: {error}", file=sys.stderr)
    return 0 if all(report.is_good for report in reports.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
