"""A long run, as the executor saves one: each wave's block adds its output to all that the run knows."""

import dataclasses
import time
from collections.abc import Iterator

import orjson

from benchmarks.states import plain_size
from workflows_mcp import CheckpointState, CheckpointStatus
from workflows_mcp.engine.definition import MAX_BLOCKS
from workflows_mcp.engine.frame import Frame
from workflows_mcp.engine.nested import NestedWorkflows
from workflows_mcp.engine.plan import plan_workflow
from workflows_mcp.engine.progress import Progress
from workflows_mcp.engine.record import BlockRecord
from workflows_mcp.engine.workflow import define_workflow

__all__ = ["LongRun"]

_SECONDS_A_WAVE = 1.0


class LongRun:
    """Runs of one workflow, whose blocks stand in a row and put out real text, each another.

    All of them have the same outputs; ids and times follow from the numbers of the run and the wave, so that each state
    can be made again.

    Args:
        waves: How many there are.
        size: Bytes of plain JSON of the last state, about.
        text: What the blocks put out is taken from; so many characters are always enough.

    Attributes:
        waves: As given.
        plain_bytes: Bytes of plain JSON of the last state.

    Raises:
        ValueError: There can be no such run.
    """

    def __init__(self, waves: int, size: int, text: str) -> None:
        if not 1 <= waves <= MAX_BLOCKS:
            raise ValueError(f"a run has 1 to {MAX_BLOCKS:,} waves, and not {waves:,}")
        self.waves = waves
        self._began = time.time() - 2 * waves * _SECONDS_A_WAVE
        self._plan = plan_workflow(define_workflow(_definition(waves), "the benchmark's workflow"))
        self._records = self._records_of("")
        missing = size - plain_size(self.state(waves))
        if missing < waves:
            raise ValueError(
                f"{waves:,} waves without any output have {size - missing:,} bytes: choose more --megabytes"
            )
        # In JSON, line feeds and quotation marks take up two bytes.
        characters = round(missing**2 / len(orjson.dumps(text[:missing])))
        self._records = self._records_of(text[:characters])
        self.plain_bytes = plain_size(self.state(waves))

    def state(self, wave: int, *, run: int = 0) -> CheckpointState:
        """What is saved when so many waves are over."""
        return next(self.states(wave, run=run))

    def states(self, first: int = 1, *, run: int = 0) -> Iterator[CheckpointState]:
        """What is saved one after the other, beginning when `first` waves are over; the last one ends the run."""
        run_id = f"{run:032x}"
        frame = Frame(self._plan, {"service": "billing", "version": "4.2"}, run_id, started_at=self._began)
        progress = Progress(frame, NestedWorkflows(self._plan, lambda _: self._plan))
        for wave, (block_id, record) in enumerate(self._records.items(), start=1):
            frame.records[block_id] = record
            frame.wave_index = wave
            if wave >= first:
                status = CheckpointStatus.RUNNING if wave < self.waves else CheckpointStatus.COMPLETED
                created_at = self._began + wave * _SECONDS_A_WAVE
                yield dataclasses.replace(
                    progress.to_state(status),
                    checkpoint_id=f"{int(created_at * 1000):012x}{run:010x}{wave:010x}",
                    created_at=created_at,
                )

    def _records_of(self, text: str) -> dict[str, BlockRecord]:
        records = {}
        for wave in range(self.waves):
            started_at = self._began + wave * _SECONDS_A_WAVE
            part = slice(len(text) * wave // self.waves, len(text) * (wave + 1) // self.waves)
            records[_block_id(wave)] = BlockRecord(
                "succeeded",
                wave,
                inputs={"command": _command(wave)},
                outputs={"stdout": text[part], "stderr": "", "exit_code": 0},
                started_at=started_at,
                completed_at=started_at + wave % 7 / 8,
            )
        return records


def _definition(waves: int) -> dict[str, object]:
    return {
        "name": "long",
        "inputs": {"service": {"type": "str"}, "version": {"type": "str"}},
        "blocks": [
            {
                "id": _block_id(wave),
                "type": "Shell",
                "inputs": {"command": _command(wave)},
                "depends_on": [_block_id(wave - 1)] if wave else [],
            }
            for wave in range(waves)
        ],
    }


def _block_id(wave: int) -> str:
    return f"step_{wave:03}"


def _command(wave: int) -> str:
    return f"make part-{wave}"
