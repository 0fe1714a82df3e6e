"""Drives one run: wave after wave, with a checkpoint after each."""

import asyncio
import dataclasses
import time
from typing import Any

from pydantic import ValidationError

from workflows_mcp.engine.blocks import BlockContext, BlockFailedError, Pause
from workflows_mcp.engine.checkpoint import CheckpointConfig, CheckpointState, CheckpointStatus
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.events import (
    BlockFinished,
    BlockSkipped,
    BlockStarted,
    CheckpointSaved,
    Event,
    EventCallback,
    RunEnded,
    RunPaused,
    RunStarted,
    WaveStarted,
    send,
)
from workflows_mcp.engine.expressions import ExpressionError, render
from workflows_mcp.engine.plan import BlockPlan, describe_inputs, truth_of
from workflows_mcp.engine.progress import BlockRecord, Progress
from workflows_mcp.engine.result import WorkflowResult
from workflows_mcp.engine.state_json import why_not_json
from workflows_mcp.errors import CheckpointEncodeError, CheckpointTooLargeError

__all__ = ["MAX_BLOCKS_AT_ONCE", "Run"]

MAX_BLOCKS_AT_ONCE = 64
"""How many blocks of a wave run at the same time; each may be a process."""

_RECORD_DEPTH = 4  # context, blocks, the record: where a block's inputs and outputs stand in a state


class Run:
    """One run in this process.

    Args:
        progress: How far it has come.
        store: Keeps its checkpoints.
        config: Which checkpoints are saved, and how large they may be.
        on_event: Is told what happens.

    Attributes:
        paused_at: The checkpoint of its pause, from when others may see it; None: it has not paused.
    """

    def __init__(
        self,
        progress: Progress,
        store: CheckpointStore,
        config: CheckpointConfig,
        on_event: EventCallback | None,
    ) -> None:
        self.paused_at: str | None = None
        self._progress = progress
        self._store = store
        self._config = config
        self._on_event = on_event
        self._slots = asyncio.Semaphore(MAX_BLOCKS_AT_ONCE)
        self._names = {"run_id": progress.run_id, "workflow_name": progress.workflow_name}

    async def answer(self, response: str) -> WorkflowResult:
        """Give the answer to the first block that waits, and go on."""
        progress = self._progress
        block_id = progress.waiting[0]
        record = progress.records[block_id]
        block_type = progress.plan.blocks[block_id].block_type
        record.outputs = block_type.answer(response, block_type.inputs.model_validate(record.inputs))
        record.status = "succeeded"
        record.completed_at = time.time()
        return await self.go(answered=block_id)

    async def go(self, *, answered: str | None = None) -> WorkflowResult:
        """Run to the end, or to the next pause.

        Args:
            answered: The block that was just answered.

        Returns:
            What the run has come to. A state that cannot be saved makes it a failure.

        Raises:
            CheckpointStoreError: A checkpoint could not be saved for a reason that lies with the store. The run
                can be recovered.
        """
        progress = self._progress
        continued = progress.checkpoint_id is not None
        await self._tell(
            RunStarted(**self._names, waves=progress.plan.waves, wave=progress.wave_index, continued=continued)
        )
        if answered is not None:
            await self._tell_finished(answered)
        try:
            if not continued:
                await self._save_progress()
            while progress.wave_index < len(progress.plan.waves):
                await self._run_wave()
                if progress.waiting:
                    return await self._pause()
                progress.wave_index += 1
                await self._save_progress()
            return await self._finish()
        except (CheckpointTooLargeError, CheckpointEncodeError) as error:
            return await self._give_up(str(error))

    async def _run_wave(self) -> None:
        progress = self._progress
        left = tuple(block_id for block_id in progress.wave if block_id not in progress.records)
        if not left:
            return
        await self._tell(WaveStarted(**self._names, wave=progress.wave_index, block_ids=left))
        async with asyncio.TaskGroup() as blocks:
            for block_id in left:
                blocks.create_task(self._run_block(block_id))
        lost = [block_id for block_id in left if block_id not in progress.records]
        if lost:  # a task group does not tell of a task that was cancelled from within
            raise RuntimeError(f"nothing is known of the blocks {lost} after their wave; this is a bug")

    async def _run_block(self, block_id: str) -> None:
        async with self._slots:
            progress = self._progress
            block = progress.plan.blocks[block_id]
            record = BlockRecord("skipped", progress.wave_index)
            try:
                record.message = self._why_skipped(block)
                if record.message is None:
                    record.started_at = time.time()
                    await self._tell(BlockStarted(**self._names, block_id=block_id, wave=record.wave))
                    await self._fill(record, block)
            except BlockFailedError as error:
                record.status, record.message = "failed", str(error)
                record.outputs = {} if why_not_json(error.outputs, "outputs") else error.outputs
            if record.status != "paused":
                record.completed_at = time.time()
            progress.records[block_id] = record
        if record.status == "skipped":
            reason = record.message or ""
            await self._tell(BlockSkipped(**self._names, block_id=block_id, wave=record.wave, reason=reason))
        elif record.status != "paused":
            await self._tell_finished(block_id)

    def _why_skipped(self, block: BlockPlan) -> str | None:
        """Why a block will not run; None when it will.

        Raises:
            BlockFailedError: Its condition gives neither true nor false.
        """
        for dependency in block.definition.depends_on:
            status = self._progress.status_of(dependency)
            if status != "succeeded":
                was = "failed" if status == "failed" else "was skipped"
                return f"block {dependency!r}, which it depends on, {was}"
        condition = block.condition
        verdict = condition if isinstance(condition, bool) else truth_of(self._render(condition, "condition"))
        if verdict is None:
            raise BlockFailedError("condition: its value is neither true nor false")
        return None if verdict else "its condition is false"

    def _render(self, compiled: Any, path: str) -> Any:  # noqa: ANN401 - JSON data
        try:
            return render(compiled, self._progress.names(), path)
        except ExpressionError as error:
            raise BlockFailedError(str(error)) from None

    async def _fill(self, record: BlockRecord, block: BlockPlan) -> None:
        """Run the block, and put what it gives into its record."""
        rendered = self._render(block.inputs, "inputs")
        _check_json(rendered, "inputs")
        record.inputs = rendered
        try:
            inputs = block.block_type.inputs.model_validate(rendered)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            raise BlockFailedError(describe_inputs(block.block_type, problems)) from None
        context = BlockContext(block_id=block.definition.id, **self._names)
        outcome = await _call(block, inputs, context)
        if isinstance(outcome, Pause):
            _check_json(outcome.prompt, "prompt")
            _check_json(outcome.metadata, "pause metadata")
            record.status = "paused"
            record.prompt, record.pause_metadata = outcome.prompt, outcome.metadata
        else:
            _check_json(outcome, "outputs")
            record.status, record.outputs = "succeeded", outcome

    async def _pause(self) -> WorkflowResult:
        state = await self._save(self._progress.to_state(CheckpointStatus.PAUSED))
        block_id, prompt = state.paused_block_id, state.pause_prompt
        assert block_id is not None
        assert prompt is not None
        await self._tell(RunPaused(**self._names, checkpoint_id=state.checkpoint_id, block_id=block_id, prompt=prompt))
        return WorkflowResult("paused", state.run_id or "", checkpoint_id=state.checkpoint_id, prompt=prompt)

    async def _finish(self) -> WorkflowResult:
        progress = self._progress
        failures = self._failures()
        outputs: dict[str, Any] = {}
        if not failures:
            try:
                outputs = render(dict(progress.plan.outputs), progress.names(), "outputs")
                _check_json(outputs, "outputs")
            except (ExpressionError, BlockFailedError) as error:
                failures = [str(error)]
        if failures:
            return await self._end_failed("; ".join(failures))
        state = await self._save(progress.to_state(CheckpointStatus.COMPLETED, outputs=outputs))
        await self._tell(RunEnded(**self._names, status="success", error=None, checkpoint_id=state.checkpoint_id))
        return WorkflowResult("success", progress.run_id, outputs, checkpoint_id=state.checkpoint_id)

    def _failures(self) -> list[str]:
        records = self._progress.records
        return [f"block {block_id!r} failed: {records[block_id].message}" for block_id in self._progress.failed]

    async def _end_failed(self, error: str) -> WorkflowResult:
        await self._save(self._progress.to_state(CheckpointStatus.FAILED, error=error))
        return await self._failure(error)

    async def _give_up(self, error: str) -> WorkflowResult:
        """End the run because its state cannot be saved, with as much of it as can be."""
        error = "; ".join([*self._failures(), f"the state of the run cannot be saved: {error}"])
        for state in _smaller_states(self._progress, error):
            try:
                await self._save(state)
                break
            except (CheckpointTooLargeError, CheckpointEncodeError):
                continue
        return await self._failure(error)

    async def _failure(self, error: str) -> WorkflowResult:
        checkpoint_id = self._progress.checkpoint_id
        await self._tell(RunEnded(**self._names, status="failure", error=error, checkpoint_id=checkpoint_id))
        return WorkflowResult("failure", self._progress.run_id, error=error, checkpoint_id=checkpoint_id)

    async def _save_progress(self) -> None:
        if self._config.enabled:
            await self._save(self._progress.to_state(CheckpointStatus.RUNNING))

    async def _save(self, state: CheckpointState) -> CheckpointState:
        if state.is_paused:
            self.paused_at = state.checkpoint_id
        await self._store.save_checkpoint(state, max_bytes=self._config.max_checkpoint_bytes)
        self._progress.saved_at = state.created_at
        self._progress.saved_blocks = frozenset(self._progress.records)
        self._progress.checkpoint_id = state.checkpoint_id
        await self._tell(
            CheckpointSaved(
                **self._names, checkpoint_id=state.checkpoint_id, status=state.status, wave=state.current_wave_index
            )
        )
        return state

    async def _tell_finished(self, block_id: str) -> None:
        record = self._progress.records[block_id]
        seconds = (record.completed_at or 0) - (record.started_at or record.completed_at or 0)
        await self._tell(
            BlockFinished(
                **self._names,
                block_id=block_id,
                wave=record.wave,
                status="succeeded" if record.status == "succeeded" else "failed",
                seconds=seconds,
                message=record.message,
            )
        )

    async def _tell(self, event: Event) -> None:
        await send(self._on_event, event)


async def _call(block: BlockPlan, inputs: Any, context: BlockContext) -> dict[str, Any] | Pause:  # noqa: ANN401
    """Run a block; whatever goes wrong in it is its failure."""
    try:
        return await block.block_type.run(inputs, context)
    except BlockFailedError:
        raise
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise BlockFailedError("it was cancelled from within") from None
    except Exception as error:  # a block may raise anything, and must not take the others along
        raise BlockFailedError(f"{type(error).__name__}: {error}") from error


def _check_json(value: object, name: str) -> None:
    flaw = why_not_json(value, name, depth=_RECORD_DEPTH)
    if flaw:
        raise BlockFailedError(flaw)


def _smaller_states(progress: Progress, error: str) -> list[CheckpointState]:
    """Final states of a run that does not fit, the fullest first."""
    failed = CheckpointStatus.FAILED
    states = []
    for dropped in (progress.records.keys() - progress.saved_blocks, progress.records.keys()):
        records = {
            block_id: record.without_data() if block_id in dropped else record
            for block_id, record in progress.records.items()
        }
        states.append(dataclasses.replace(progress, records=records).to_state(failed, error=error))
    bare = dataclasses.replace(
        states[-1], runtime_inputs={}, block_definitions={}, workflow_stack=[], execution_waves=[], completed_blocks=[]
    )
    context = {"started_at": progress.started_at, "blocks": {}, "error": error}
    return [*states, dataclasses.replace(bare, context=context)]
