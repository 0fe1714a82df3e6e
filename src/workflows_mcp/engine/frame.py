"""One workflow within a run: the run's own, or one that a block of it runs."""

import functools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from workflows_mcp.engine.plain_json import sealed, sealed_with
from workflows_mcp.engine.plan import Plan
from workflows_mcp.engine.record import BlockRecord

__all__ = ["Frame", "Parent"]

_STRUCTURE = frozenset('[]/"')
_INPUTS_DEPTH = 3  # the stack, a frame, its inputs


@dataclass(frozen=True)
class Parent:
    """The block in whose place a workflow runs.

    Attributes:
        frame: The workflow that the block belongs to.
        block_id: Names the block.
        key: Names its item, when it has a `for_each`.
    """

    frame: "Frame"
    block_id: str
    key: str | None = None

    @property
    def path(self) -> str:
        """Names the block within the run: `deploy[eu]/check`."""
        return self.frame.path_of(self.block_id, self.key)

    @property
    def record(self) -> BlockRecord:
        """What becomes of it."""
        record = self.frame.records[self.block_id]
        return record if self.key is None or record.items is None else record.items[self.key]


@dataclass(eq=False)
class Frame:
    """One workflow within a run, and how far it has come.

    Attributes:
        plan: The workflow.
        inputs: Its inputs, checked and coerced.
        run_id: Names the run.
        parent: The block in whose place it runs; None: it is the run's own.
        started_at: Unix time in seconds.
        records: What became of each block so far, by id.
        wave_index: The wave to run next.
    """

    plan: Plan
    inputs: dict[str, Any]
    run_id: str
    parent: Parent | None = None
    started_at: float = field(default_factory=lambda: time.time())  # noqa: PLW0108 - the clock that counts by then
    records: dict[str, BlockRecord] = field(default_factory=dict)
    wave_index: int = 0

    def __post_init__(self) -> None:
        self._readable: dict[str, dict[str, Any]] = {}
        self._over: dict[str, dict[str, Any]] = {}

    @property
    def name(self) -> str:
        """Names the workflow."""
        return self.plan.definition.name

    @functools.cached_property
    def metadata(self) -> dict[str, Any]:
        """What expressions can read of it under `metadata`."""
        return {"workflow_name": self.name, "run_id": self.run_id, "started_at": self.started_at}

    @functools.cached_property
    def path(self) -> str:
        """Names it within the run, by the block in whose place it runs; empty: it is the run's own."""
        return "" if self.parent is None else self.parent.path

    def path_of(self, block_id: str, key: str | None = None) -> str:
        """Names one of its blocks within the run."""
        # A key may hold anything, and a path must not be that of another block.
        shown = key if key is None or not _STRUCTURE.intersection(key) else json.dumps(key)
        step = block_id if key is None else f"{block_id}[{shown}]"
        return f"{self.path}/{step}" if self.path else step

    @functools.cached_property
    def depth(self) -> int:
        """How many workflows it is nested in."""
        return 0 if self.parent is None else self.parent.frame.depth + 1

    @property
    def wave(self) -> tuple[str, ...]:
        """The blocks of the wave to run next; empty after the last."""
        return self.plan.waves[self.wave_index] if self.wave_index < len(self.plan.waves) else ()

    @property
    def completed(self) -> list[str]:
        """The ids of the blocks that are over, by wave."""
        over = self._records_over()
        return [block_id for wave in self.plan.waves[: self.wave_index + 1] for block_id in wave if block_id in over]

    @functools.cached_property
    def inputs_data(self) -> dict[str, Any]:
        """Its inputs as a state keeps them; not to be changed."""
        inputs: dict[str, Any] = sealed(self.inputs, depth=_INPUTS_DEPTH)
        return inputs

    @property
    def records_data(self) -> dict[str, Any]:
        """Its records as a state keeps them, by id; not to be changed further down."""
        over = self._records_over()
        if len(over) == len(self.records):
            return over
        return {**over, **{one: record.data for one, record in self.records.items() if one not in over}}

    def _records_over(self) -> dict[str, dict[str, Any]]:
        """The records of the blocks that are over, as a state keeps them: most are the same as at the last save."""
        over = self._over
        if len(over) < len(self.records):
            for block_id, record in self.records.items():
                if block_id not in over and record.is_over:
                    over = sealed_with(over, block_id, record.data)
            self._over = over
        return over

    @property
    def is_waiting(self) -> bool:
        """Whether something in its wave waits for an answer."""
        records = self.records
        return any(block_id in records and records[block_id].status == "paused" for block_id in self.wave)

    @property
    def is_wave_over(self) -> bool:
        """Whether nothing more will happen in its wave."""
        records = self.records
        return all(block_id in records and records[block_id].is_over for block_id in self.wave)

    @property
    def holds_answer(self) -> bool:
        """Whether a question of it was answered, or one of a workflow that ran in the place of a block."""
        return any(record.holds_answer for record in self.records.values())

    @property
    def failures(self) -> list[str]:
        """Why it is a failure, by the blocks that failed and that nothing handles, in the order of the definition."""
        return [
            f"block {block_id!r} failed: {self.records[block_id].message}"
            for block_id, block in self.plan.blocks.items()
            if not block.is_handled and block_id in self.records and self.records[block_id].status == "failed"
        ]

    def children(self) -> "Iterator[Frame]":
        """The workflows that run in place of its blocks now."""
        for block_id in self.wave:
            record = self.records.get(block_id)
            if record is not None and not record.is_over:
                for one in [record] if record.items is None else record.items.values():
                    if one.child is not None:
                        yield one.child

    def readable_blocks(self) -> dict[str, dict[str, Any]]:
        """What expressions can read of the blocks that are over.

        That none reads a block which it does not wait for is the plan's care.
        """
        readable = self._readable
        if len(readable) < len(self.records):
            for block_id, record in self.records.items():
                if block_id not in readable and record.is_over:
                    readable[block_id] = record.readable
        return readable
