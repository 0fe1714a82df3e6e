"""What is known of each block of a run, for whoever looks at it."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.engine.frame import Frame
from workflows_mcp.engine.record import BlockRecord, BlockStatus

__all__ = [
    "BlockDetails",
    "ShownBlockStatus",
    "blocks_of",
    "depths_of",
    "foreign_blocks",
    "seconds_or_none",
    "without_secrets",
]

_MOST_ITEMS = 20

_LATEST = 2**63

_STATUSES: frozenset[str] = frozenset(get_args(BlockStatus))

ShownBlockStatus = BlockStatus | Literal["not begun", "may have begun", "interrupted", "done"]


@dataclass(frozen=True)
class BlockDetails:
    """A block of a run, or one of its items.

    Attributes:
        path: Names it within the run: `build`; `outer/inner` in a nested workflow, `deploy[eu]` for an item.
        status: What became of it; `not begun`: its turn has not come. Of a run that another executor works on, or
            that nobody does any more: `may have begun`: it is its turn, and a start alone is not saved; `interrupted`:
            it was under way when its process died or was stopped, and runs again. Of a run that another program saved:
            `done`: it is over, however it ended.
        wave: Index of its wave within its workflow.
        started_at: Unix time in seconds.
        seconds: How long it took.
        message: Why it failed or was skipped.
        attempts: How often it was begun.
        items: How many of its items are in which status; None: it has no `for_each`.
        completed_at: When it ended, in Unix seconds.
        block_id: Names it, or the block that it is an item of, within its workflow.
        key: Names the item; None: it is a block.
        type: The name of its block type; None: another program saved it, and does not tell.
        needs: The paths of the blocks that it waits for, in their order; none of an item.
        parent: The path of what it is within: of an item its block; of a block in a nested workflow the block or the
            item in whose place that runs. None: it is a block of the run's own workflow.
        workflow: The name of the workflow that runs in its place; None: none does, or which one is known only then.
        asks: Whether it asks somebody, or did, or something in it: the time that it takes is theirs.
    """

    path: str
    status: ShownBlockStatus
    wave: int
    started_at: float | None = None
    seconds: float | None = None
    message: str | None = None
    attempts: int = 1
    items: Mapping[str, int] | None = None
    completed_at: float | None = None
    block_id: str = ""
    key: str | None = None
    type: str | None = None
    needs: tuple[str, ...] = ()
    parent: str | None = None
    workflow: str | None = None
    asks: bool = False


def blocks_of(frame: Frame, *, is_known: bool) -> Iterator[BlockDetails]:
    """The blocks of a workflow within a run, wave by wave, each with what is in it behind it.

    Args:
        frame: The workflow.
        is_known: Whether a block without a record has not begun; else one whose turn it is may have.

    Raises:
        TypeError: A record is not as an executor makes it.
        ValueError: As above.
        AttributeError: As above.
    """
    turn = frame.wave_index + frame.is_wave_over
    within = frame.path or None
    for wave, block_ids in enumerate(frame.plan.waves):
        for block_id in block_ids:
            plan = frame.plan.blocks[block_id]
            record = frame.records.get(block_id)
            begun: ShownBlockStatus = "not begun" if is_known or wave != turn else "may have begun"
            block = BlockDetails(
                frame.path_of(block_id),
                begun,
                wave,
                block_id=block_id,
                type=plan.definition.type,
                needs=tuple(frame.path_of(one.block) for one in plan.definition.depends_on),
                parent=within,
                workflow=plan.nested_name,
            )
            if record is None:
                yield block
                continue
            yield _with_record(block, record)
            yield from _inside(frame, block, record, is_known=is_known)


def _inside(frame: Frame, block: BlockDetails, record: BlockRecord, *, is_known: bool) -> Iterator[BlockDetails]:
    if record.items is None:
        if record.child is not None:
            yield from blocks_of(record.child, is_known=is_known)
        return
    items = list(record.items.items())
    if len(items) > _MOST_ITEMS:
        items = [(key, item) for key, item in items if item.status != "succeeded"][:_MOST_ITEMS]
    for key, item in items:
        path = frame.path_of(block.block_id, key)
        yield _with_record(dataclasses.replace(block, path=path, key=key, needs=(), parent=block.path), item)
        if item.child is not None:
            yield from blocks_of(item.child, is_known=is_known)


def _with_record(block: BlockDetails, record: BlockRecord) -> BlockDetails:
    message: object = record.message
    if {record.status} - _STATUSES or type(record.attempts) is not int or not isinstance(message, str | None):
        raise TypeError("no executor has saved this record")
    started, completed = seconds_or_none(record.started_at), seconds_or_none(record.completed_at)
    return dataclasses.replace(
        block,
        status=record.status,
        started_at=started,
        completed_at=completed,
        seconds=None if started is None or completed is None else completed - started,
        message=record.message,
        attempts=record.attempts,
        items=None if record.items is None else dict(Counter(item.status for item in record.items.values())),
        workflow=block.workflow if record.child is None else record.child.name,
        asks=record.prompt is not None or record.holds_answer,
    )


def depths_of(blocks: Sequence[BlockDetails]) -> list[int]:
    """How deep each stands within others; 0: in the run's own workflow.

    Args:
        blocks: What is within something stands behind it.
    """
    depths: dict[str, int] = {}
    for one in blocks:
        depths[one.path] = 0 if one.parent is None else depths.get(one.parent, -1) + 1
    return [depths[one.path] for one in blocks]


def without_secrets(blocks: Sequence[BlockDetails], scrub: Callable[[Any], Any]) -> Iterator[BlockDetails]:
    """The same blocks with masks for secrets in all texts of theirs, and still to be told apart by their paths.

    Args:
        blocks: All blocks of a run.
        scrub: Masks secrets in JSON data.
    """
    # As keys of one object: paths that become alike get further stars, wherever they stand.
    found = dict.fromkeys(one.path for one in blocks)
    paths = dict(zip(found, scrub(found), strict=True))
    for one in blocks:
        message, block_id, key, kind, workflow = scrub([one.message, one.block_id, one.key, one.type, one.workflow])
        yield dataclasses.replace(
            one,
            path=paths[one.path],
            message=message,
            block_id=block_id,
            key=key,
            type=kind,
            needs=tuple(paths.get(path) or scrub(path) for path in one.needs),
            parent=None if one.parent is None else paths.get(one.parent) or scrub(one.parent),
            workflow=workflow,
        )


def seconds_or_none(value: object) -> float | None:
    """The value, if it is a time; None: it is not, as what no executor has saved may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LATEST else None  # NaN is not less than anything


def foreign_blocks(state: CheckpointState, *, is_known: bool) -> Iterator[BlockDetails]:
    """The blocks of a run that another program saved, as far as its waves and its list of what is done tell of them.

    Args:
        state: What was saved; what is in it may be of any kind.
        is_known: Whether a block that is not done has not begun; else one whose turn it is may have.
    """
    done = {one for one in _listed(state.completed_blocks) if isinstance(one, str)}
    waves = [[one for one in _listed(wave) if isinstance(one, str)] for wave in _listed(state.execution_waves)]
    definitions: object = state.block_definitions
    seen: set[str] = set()
    known = {block_id for wave in waves for block_id in wave}
    for index, wave in enumerate(waves):
        for block_id in wave:
            if block_id in seen:
                continue
            seen.add(block_id)
            status: ShownBlockStatus = "not begun"
            if block_id == state.paused_block_id:
                status = "paused"
            elif block_id in done:
                status = "done"
            elif not is_known and index == state.current_wave_index:
                status = "may have begun"
            definition = definitions.get(block_id) if isinstance(definitions, dict) else None
            told = definition if isinstance(definition, dict) else {}
            kind = told.get("type")
            yield BlockDetails(
                block_id,
                status,
                index,
                block_id=block_id,
                type=kind if isinstance(kind, str) else None,
                needs=tuple(one for one in _needs_in(told.get("depends_on")) if one in known),
            )


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _needs_in(dependencies: object) -> Iterator[str]:
    """The ids in a `depends_on`, in either way to write it."""
    for one in [dependencies] if isinstance(dependencies, str) else _listed(dependencies):
        named = one.get("block") if isinstance(one, dict) else one
        if isinstance(named, str):
            yield named
