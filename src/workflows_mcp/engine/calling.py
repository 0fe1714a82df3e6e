"""Calls block types: evaluates what a block reads, checks what it gives, and keeps secrets out of both."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError

from workflows_mcp.engine.blocks import BlockContext, BlockFailedError, BlockInputs, Call, Pause, answered
from workflows_mcp.engine.expressions import ExpressionError, render
from workflows_mcp.engine.files import read_outputs
from workflows_mcp.engine.frame import Frame, Parent
from workflows_mcp.engine.nested import MAX_NESTING
from workflows_mcp.engine.outputs import evaluate_inputs
from workflows_mcp.engine.place import Place
from workflows_mcp.engine.plain_json import why_not_json
from workflows_mcp.engine.plan import describe_inputs
from workflows_mcp.engine.progress import Progress
from workflows_mcp.engine.record import RECORD_DEPTH, BlockRecord
from workflows_mcp.engine.scratch import scratch_folder
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.errors import (
    BlockTypeDisabledError,
    ScratchFolderError,
    SecretError,
    WorkflowDefinitionError,
    WorkflowNotFoundError,
)

__all__ = ["MAX_BLOCKS_AT_ONCE", "Caller", "check_json"]

MAX_BLOCKS_AT_ONCE = 64
"""How many blocks of a run run at the same time, items and nested workflows' blocks included; each may be a process."""


class Caller:
    """Calls the block types of one run.

    Args:
        progress: How far the run has come.
        secrets: What `secrets.NAME` reads, and what must not be kept.
        confirm: Awaited before a block begins; raises an error when it must not.
    """

    def __init__(self, progress: Progress, secrets: Secrets, confirm: Callable[[], Awaitable[None]]) -> None:
        self._progress = progress
        self._secrets = secrets
        self._confirm = confirm
        self._slots = asyncio.Semaphore(MAX_BLOCKS_AT_ONCE)
        self._names = {"run_id": progress.run_id, "workflow_name": progress.workflow_name}

    async def call(self, place: Place, record: BlockRecord) -> dict[str, Any] | Pause | Call:
        """Run a block once; its inputs go into its record.

        Raises:
            BlockFailedError: It has failed, in whatever way.
            CheckpointStoreError: It must not begin; see `confirm`.
        """
        block_type = place.block.block_type
        rendered = self.render(place, place.block.inputs, "inputs")
        check_json(rendered, "inputs")
        record.inputs = self._secrets.scrub(rendered)
        try:
            inputs = block_type.inputs.model_validate(rendered)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            raise BlockFailedError(describe_inputs(block_type, problems)) from None
        context = BlockContext(block_id=place.block_id, scrub=self._secrets.scrub_text, **self._names)
        async with self._slots:
            await self._confirm()
            try:
                outcome: object = await block_type.run(inputs, context)
            except BlockFailedError:
                raise
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                raise BlockFailedError("it was cancelled from within") from None
            except Exception as error:  # a block may raise anything, and must not take the others along
                raise BlockFailedError(_described(error)) from error
        if isinstance(outcome, Pause):
            self._check_pause(place, record, outcome, inputs)
            return outcome
        if isinstance(outcome, dict | Call):
            return outcome
        raise BlockFailedError(f"its block type gave a {type(outcome).__name__}, and no dict of outputs")

    def _check_pause(self, place: Place, record: BlockRecord, pause: Pause, inputs: BlockInputs) -> None:
        """Refuse a question that could not be answered, or a default that is no answer, while it is the block's fault.

        Raises:
            BlockFailedError: It is such.
        """
        block_type = place.block.block_type
        if place.block.files:
            raise BlockFailedError("outputs: a block that asks has no outputs that are read from files")
        try:
            block_type.inputs.model_validate(record.inputs)  # as it will be when it is answered: without secrets
            if _has_default(pause.metadata):
                answered(block_type, pause.metadata["default"], inputs)
        except ValidationError:
            raise BlockFailedError("a secret stands where the block needs it to look at the answer") from None
        except ValueError as error:
            raise BlockFailedError(f"its default is no answer that it takes: {error}") from None

    def pause(self, pause: Pause, record: BlockRecord) -> None:
        """Note what a block asks, and that it waits.

        Raises:
            BlockFailedError: It asks what cannot be saved.
        """
        check_json(pause.prompt, "prompt")
        check_json(pause.metadata, "pause metadata")
        metadata = self._secrets.scrub(pause.metadata)
        if _has_default(metadata):
            record.expires_at = time.time() + metadata["timeout_seconds"]
        record.status, record.prompt, record.pause_metadata = "paused", self._secrets.scrub(pause.prompt), metadata

    async def nest(self, place: Place, call: Call) -> Frame:
        """The workflow that runs in the place of a block.

        Raises:
            BlockFailedError: There is none of this name, it is nested too deeply, or is given what it does not take.
            BlockTypeDisabledError: It cannot run on this server, which is no fault of the block's.
        """
        if place.frame.depth >= MAX_NESTING:
            raise BlockFailedError(f"workflows are nested deeper than {MAX_NESTING}: a recursion needs an end")
        try:
            plan = self._progress.nested.known(call.workflow)
            if plan is None:  # files may have to be read
                plan = await asyncio.to_thread(self._progress.nested.plan, call.workflow)
            inputs = evaluate_inputs(plan, self._secrets.scrub(call.inputs), place.frame.run_id)
        except BlockTypeDisabledError:
            raise
        except (WorkflowNotFoundError, WorkflowDefinitionError) as error:
            raise BlockFailedError(str(error)) from None
        return Frame(plan, inputs, place.frame.run_id, Parent(place.frame, place.block_id, place.key))

    async def read_files(self, place: Place, record: BlockRecord) -> dict[str, Any]:
        """What a block has written into the files that its `outputs` name.

        Raises:
            BlockFailedError: See `read_outputs`.
        """
        paths = self.render(place, dict(place.block.files), "outputs")
        working_dir = (record.inputs or {}).get("working_dir")
        return await asyncio.to_thread(read_outputs, place.block.definition.outputs, paths, working_dir)

    def render(self, place: Place, compiled: Any, path: str) -> Any:  # noqa: ANN401 - JSON data
        """Evaluate the expressions of a block.

        Raises:
            BlockFailedError: One fails, or reads a secret or a scratch folder that is not as it should be.
        """
        try:
            return render(compiled, self._readable(place), path)
        except (ExpressionError, SecretError, ScratchFolderError) as error:
            raise BlockFailedError(str(error)) from None

    def _readable(self, place: Place) -> dict[str, Any]:
        """What its expressions can read."""
        reads = place.block.reads
        names: dict[str, Any] = {}
        if not reads:
            return names
        frame = place.frame
        names["inputs"] = frame.inputs
        names["blocks"] = frame.readable_blocks()
        names["metadata"] = frame.metadata
        if place.each is not None:
            names["each"] = place.each
        if "tmp" in reads:
            self._progress.uses_scratch = True
            names["tmp"] = str(scratch_folder(self._progress.run_id))
        if "secrets" in reads:
            names["secrets"] = dict(self._secrets.values())
        return names


def _has_default(metadata: dict[str, Any]) -> bool:
    """Whether a question is answered by itself after a time."""
    seconds = metadata.get("timeout_seconds")
    return isinstance(seconds, int | float) and isinstance(metadata.get("default"), str)


def _described(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - an exception of somebody else's may fail at this, too
        return type(error).__name__


def check_json(value: object, name: str) -> None:
    """Refuse what a block's record could not hold.

    Raises:
        BlockFailedError: It is not plain JSON data.
    """
    flaw = why_not_json(value, name, depth=RECORD_DEPTH + 2)
    if flaw:
        raise BlockFailedError(flaw)
