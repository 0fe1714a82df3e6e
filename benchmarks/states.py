"""The states that are saved: made from a seed, of a given size, and shaped like those of real runs."""

import base64
import dataclasses
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from workflows_mcp import CheckpointState

__all__ = ["CONTENT_FIELDS", "SIZES", "Key", "Shape", "StateSource", "plain_size"]

SIZES = {"1kb": 2**10, "20kb": 20 * 2**10, "1mb": 2**20}
"""Bytes of plain JSON, by the name that workloads bear."""

CONTENT_FIELDS = (
    "runtime_inputs",
    "context",
    "completed_blocks",
    "current_wave_index",
    "execution_waves",
    "block_definitions",
    "workflow_stack",
    "parent_checkpoint_id",
    "paused_block_id",
    "pause_prompt",
    "pause_metadata",
    "child_checkpoint_id",
    "schema_version",
)
"""The fields of a state that the guide's JSON holds; every contender stores and gives back all of them."""

_SYLLABLES = ("ra", "ko", "mi", "ten", "lu", "var", "shi", "pol", "den", "ga", "est", "or", "lin", "qua", "bre", "to")

_BYTES_OF_TEMPLATES = 2 * 2**20
_FEWEST_TEMPLATES, _MOST_TEMPLATES = 4, 256
"""Different contents to save: many, but no more of the large ones than a measurement of memory can bear."""


@dataclass(frozen=True)
class Key:
    """What a saved checkpoint is loaded by; some peers need the run as well."""

    checkpoint_id: str
    run_id: str


@dataclass(frozen=True)
class Shape:
    """What the states of a workload are like.

    Attributes:
        smallest: Bytes of plain JSON of the smallest state.
        largest: Bytes of plain JSON of the largest state; sizes lie evenly between the two.
        compressible: Whether the text is words, which zstd shrinks about threefold, or noise.
        workflows: How many workflow names there are.
        paused_every: Every so many states one waits for an answer; 0: none does.
        active_runs: How many runs go on at a time, each saving in its turn.
    """

    smallest: int
    largest: int
    compressible: bool = True
    workflows: int = 20
    paused_every: int = 100
    active_runs: int = 50


class StateSource:
    """Makes states one after the other, each with an id and a time later than those before it.

    Runs have 20 checkpoints. The contents are built first and then shared between states, so that making one costs
    microseconds.

    Args:
        shape: What the states are like.
        seed: Decides everything but ids and times.
    """

    checkpoints_per_run = 20

    def __init__(self, shape: Shape, *, seed: int = 1) -> None:
        self.shape = shape
        self._random = random.Random(seed)
        count = max(_FEWEST_TEMPLATES, min(_MOST_TEMPLATES, _BYTES_OF_TEMPLATES // shape.largest))
        vocabulary = _vocabulary(random.Random(seed))
        spread = shape.largest - shape.smallest
        self._templates = [
            _template(
                self._random,
                vocabulary if shape.compressible else None,
                shape.smallest + round(spread * number / (count - 1)),
            )
            for number in range(count)
        ]
        self._random.shuffle(self._templates)
        self.restart()

    def restart(self) -> None:
        """Begin anew with the first run: what follows lies in the same workflows for every contender."""
        self._runs: dict[int, str] = {}
        self._made = 0

    def take(self, count: int, *, start: float | None = None, step: float = 1e-4) -> list[CheckpointState]:
        """The next states.

        Args:
            count: How many.
            start: Unix time of the first; None: now.
            step: Seconds between two of them.
        """
        first = time.time() if start is None else start
        return [self._next(first + number * step) for number in range(count)]

    def stream(self, count: int, *, start: float, step: float) -> Iterator[CheckpointState]:
        """The next states one by one, for amounts that are too large to be held; see `take`."""
        for number in range(count):
            yield self._next(start + number * step)

    def _next(self, created_at: float) -> CheckpointState:
        number, self._made = self._made, self._made + 1
        shape = self.shape
        # Runs go on side by side: the checkpoints of one lie apart, as those of a busy server do.
        slice_, place = divmod(number, shape.active_runs * self.checkpoints_per_run)
        run = slice_ * shape.active_runs + place % shape.active_runs
        if place < shape.active_runs:
            self._runs[run] = self._id(created_at)
            self._runs.pop(run - shape.active_runs, None)
        paused: dict[str, Any] = {}
        if shape.paused_every and number % shape.paused_every == shape.paused_every - 1:
            paused = {"paused_block_id": "approve", "pause_prompt": "Deploy this release to production?"}
        return dataclasses.replace(
            self._templates[number % len(self._templates)],
            checkpoint_id=self._id(created_at),
            workflow_name=f"workflow-{run % shape.workflows:04}",
            created_at=created_at,
            run_id=self._runs[run],
            **paused,
        )

    def _id(self, created_at: float) -> str:
        """An id as the executor makes them: ids sort by time, to the millisecond."""
        return f"{int(created_at * 1000):012x}{self._random.getrandbits(80):020x}"


def plain_size(state: CheckpointState) -> int:
    """Bytes of the state's plain JSON, with all its fields."""
    return len(orjson.dumps(vars(state)))


def _vocabulary(source: random.Random) -> list[str]:
    return ["".join(source.choices(_SYLLABLES, k=source.randint(1, 4))) for _ in range(600)]


def _template(source: random.Random, vocabulary: list[str] | None, size: int) -> CheckpointState:
    """A state of about so many bytes of plain JSON: blocks whose outputs are text, ids and numbers."""
    blocks = max(2, min(12, size // 1500))
    names = [f"block_{number}" for number in range(blocks)]
    done = names[:-1]
    state = CheckpointState(
        checkpoint_id="0" * 32,
        workflow_name="workflow-0000",
        created_at=1_795_000_000.123,
        runtime_inputs={"service": "billing", "version": f"{source.randint(1, 9)}.{source.randint(0, 99)}"},
        context={"blocks": {name: _record(source, wave) for wave, name in enumerate(done)}},
        completed_blocks=done,
        current_wave_index=len(done),
        execution_waves=[[name] for name in names],
        block_definitions={name: {"type": "Shell", "needs": names[wave - 1 : wave]} for wave, name in enumerate(names)},
        workflow_stack=[{"name": "release", "inputs": {}}],
        run_id="0" * 32,
    )
    missing = size - plain_size(state)
    for number, name in enumerate(done):
        share = missing // len(done) + (missing % len(done) if number == 0 else 0)
        state.context["blocks"][name]["outputs"]["stdout"] = _text(source, vocabulary, share)
    return state


def _record(source: random.Random, wave: int) -> dict[str, Any]:
    return {
        "status": "succeeded",
        "wave": wave,
        "outputs": {
            "stdout": "",
            "digest": source.randbytes(8).hex(),
            "seconds": round(source.random(), 4),
            "exit_code": 0,
        },
    }


def _text(source: random.Random, vocabulary: list[str] | None, length: int) -> str:
    """Text of a length: log lines of words and numbers, or, without a vocabulary, noise."""
    if length <= 0:
        return ""
    if vocabulary is None:
        return base64.b64encode(source.randbytes(length)).decode()[:length]
    lines: list[str] = []
    total = 0
    while total < length:
        words = " ".join(source.choices(vocabulary, k=8))
        lines.append(f"{words} id={source.getrandbits(32):08x} took {source.randint(1, 9999)} ms; ")
        total += len(lines[-1])
    return "".join(lines)[:length]
