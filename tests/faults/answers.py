"""Many processes answer the same questions at once: each question has one winner, and no block runs twice."""

import asyncio
import json
import random
import traceback
from collections import Counter
from pathlib import Path

from tests.faults.crew import append, join, start
from tests.faults.row import Effort, Place, Row, Verdict
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


async def check(place: Place, effort: Effort) -> Verdict:
    """Pause runs, and have processes answer all of them at the same time."""
    processes, questions = effort.of(8, 4), effort.of(300, 40)
    url, folder = place.url, place.folder
    await upgrade_schema(url)
    verdict = Verdict()
    register_mark(folder / "journal")
    async with SQLAlchemyCheckpointStore(url) as store:
        executor = WorkflowExecutor(store, CheckpointConfig(enabled=False))
        asked = await asyncio.gather(*(executor.execute_workflow(ASKING) for _ in range(questions)))
        paused = {one.checkpoint_id: one.run_id for one in asked if one.checkpoint_id is not None}
        names = [f"process-{number}" for number in range(processes)]
        crew = [start(answer_all, url, folder, name, list(paused)) for name in names]
        while len(_lines(folder / "ready")) < processes:
            assert all(one.exitcode is None for one in crew), "a process ended before it had begun"
            await asyncio.sleep(0.005)
        (folder / "go").touch()
        for name, code in zip(names, [await join(one) for one in crew], strict=True):
            verdict.require(not code, f"{name} ended with exit code {code}")
        outcomes = _outcomes(folder, names)
        counts = Counter(what for _, _, what in outcomes)
        verdict.broken += [what for what in counts if what not in {"won", "claimed"}]
        winners = {checkpoint_id: name for name, checkpoint_id, what in outcomes if what == "won"}
        marks = Counter(_lines(folder / "journal"))
        doubles = [run_id for run_id in paused.values() if marks[run_id] != 1]
        verdict.figures = {
            "questions": len(paused),
            "processes": processes,
            "answers taken": counts["won"],
            "told that it is claimed": counts["claimed"],
            "blocks run twice or never": len(doubles),
        }
        verdict.require(len(paused) == questions, f"{len(paused)} of {questions} runs paused")
        verdict.require(len(outcomes) == processes * questions, f"{len(outcomes)} answers were given")
        verdict.require(set(winners) == set(paused), f"{questions - len(winners)} questions have no winner")
        verdict.require(counts["won"] == questions, f"{counts['won']} answers to {questions} questions were taken")
        verdict.broken += [f"the block after the question ran {marks[run_id]} times in {run_id}" for run_id in doubles]
        for checkpoint_id, run_id in paused.items():
            heads = await store.list_checkpoints(run_id=run_id, heads_only=True)
            ends = [await store.load_checkpoint(head.checkpoint_id) for head in heads]
            outputs = [end.context.get("outputs") for end in ends if end is not None]
            wanted = [{"answer": winners.get(checkpoint_id)}]
            verdict.require(outputs == wanted, f"{run_id} ended with {outputs}, not with {wanted}")
    return verdict


def _outcomes(folder: Path, names: list[str]) -> list[tuple[str, str, str]]:
    """What became of each answer: who gave it, to which checkpoint, and `won`, `claimed` or an error."""
    return [
        (name, checkpoint_id, what)
        for name in names
        if (folder / name).exists()
        for checkpoint_id, what in json.loads((folder / name).read_text())
    ]


def _lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


ROW = Row(
    fault="one question, many answers",
    promise="One answer is taken, the others are told so, and what comes after it runs once.",
    check=check,
)
