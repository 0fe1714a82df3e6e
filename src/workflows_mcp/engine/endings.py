"""How blocks end: what is told of it, and how much of it is kept."""

from typing import Any

from workflows_mcp.engine.blocks import BlockFailedError
from workflows_mcp.engine.events import BlockFinished
from workflows_mcp.engine.expressions import ExpressionError
from workflows_mcp.engine.frame import Frame
from workflows_mcp.engine.outputs import evaluate_outputs
from workflows_mcp.engine.place import Place
from workflows_mcp.engine.plain_json import why_not_json
from workflows_mcp.engine.record import RECORD_DEPTH, BlockRecord

__all__ = ["can_be_kept", "finished", "missing_dependency", "outputs_of", "shortened"]

_MAX_MESSAGE = 4096
"""Characters of a failure's reason that are kept: each workflow that tells it on may make it several times as long."""


def finished(names: dict[str, str], path: str, record: BlockRecord) -> BlockFinished:
    """What is told of a block that is over."""
    seconds = (record.completed_at or 0) - (record.started_at or record.completed_at or 0)
    return BlockFinished(
        **names,
        block_id=path,
        wave=record.wave,
        status="succeeded" if record.status == "succeeded" else "failed",
        seconds=seconds,
        message=record.message,
    )


def can_be_kept(outputs: object) -> bool:
    """Whether a record can hold the outputs of a block that failed."""
    return isinstance(outputs, dict) and why_not_json(outputs, "outputs", depth=RECORD_DEPTH + 2) is None


def missing_dependency(place: Place) -> str | None:
    """Why a block does not run, by the blocks that it depends on; None: they are all right."""
    records = place.frame.records
    for dependency in place.block.definition.depends_on:
        if dependency.required and records[dependency.block].status != "succeeded":
            was = "failed" if records[dependency.block].status == "failed" else "was skipped"
            return f"block {dependency.block!r}, which it depends on, {was}"
    return None


def outputs_of(child: Frame) -> dict[str, Any]:
    """What a nested workflow gives to the block that it ran for.

    Raises:
        BlockFailedError: It has failed.
    """
    failures = child.failures
    if not failures:
        try:
            return evaluate_outputs(child)
        except ExpressionError as error:
            failures = [str(error)]
    raise BlockFailedError(f"workflow {child.name!r}: {'; '.join(failures)}")


def shortened(message: str) -> str:
    """The beginning and the end: what was to be done, and what was wrong at the innermost."""
    if len(message) <= _MAX_MESSAGE:
        return message
    return f"{message[: _MAX_MESSAGE // 2]} … {message[-_MAX_MESSAGE // 2 :]}"
