"""What became of a block, or of one of its items."""

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from workflows_mcp.engine.plain_json import sealed

if TYPE_CHECKING:
    from workflows_mcp.engine.frame import Frame

__all__ = ["RECORD_DEPTH", "BlockRecord", "BlockStatus"]

BlockStatus = Literal["running", "succeeded", "failed", "skipped", "paused"]

RECORD_DEPTH = 5
"""How deep in a field of a state an item's record may stand: the stack, a frame, records, a record, its items."""

_DATA = ("message", "started_at", "completed_at", "inputs", "outputs", "prompt", "pause_metadata", "expires_at", "mode")


@dataclass
class BlockRecord:
    """What became of a block, or of one of its items.

    Attributes:
        status: `succeeded`, `failed`, `skipped`; `paused`: it, or something in it, waits for an answer; `running`: it
            is under way.
        wave: Index of its wave.
        inputs: Its inputs with the expressions evaluated; None when it did not come to that.
        outputs: What it gave; a failed one may have some too.
        message: Why it failed or was skipped.
        started_at: Unix time in seconds.
        completed_at: Unix time in seconds.
        attempts: How often it was begun.
        prompt: What it asks; kept when it is answered.
        pause_metadata: What else it told about its pause.
        expires_at: When the default answer in that is taken, in Unix seconds; None: never.
        mode: Of a block with `for_each`: how its items run.
        items: Of a block with `for_each`: what became of each item, by key.
        child: The workflow that runs in its place, while it is not over.
        is_dropped: Whether it did not fit into the state of a run that ended for that reason.
        has_answers: Whether a question was answered in the workflow that ran in its place; that one is gone with its
            records.
    """

    status: BlockStatus
    wave: int
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] = field(default_factory=dict)
    message: str | None = None
    started_at: float | None = None
    completed_at: float | None = None
    attempts: int = 1
    prompt: str | None = None
    pause_metadata: dict[str, Any] | None = None
    expires_at: float | None = None
    mode: str | None = None
    items: "dict[str, BlockRecord] | None" = None
    child: "Frame | None" = None
    is_dropped: bool = False
    has_answers: bool = False

    @property
    def weight(self) -> int:
        """How many bytes its inputs and outputs have at least."""
        weight = 0
        waiting: list[object] = [self.inputs, self.outputs]
        while waiting:
            one = waiting.pop()
            if isinstance(one, str):
                weight += len(one)
            elif isinstance(one, dict):
                waiting.extend(one.keys())
                waiting.extend(one.values())
            elif isinstance(one, list):
                waiting.extend(one)
            else:
                weight += 1
        return weight

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status not in {"running", "paused"}

    @property
    def holds_answer(self) -> bool:
        """Whether a question was answered in it: its own, an item's, or one of a workflow that ran in its place."""
        if self.has_answers or (self.prompt is not None and self.status == "succeeded"):
            return True
        items = () if self.items is None else self.items.values()
        return any(item.holds_answer for item in items) or (self.child is not None and self.child.holds_answer)

    @property
    def data(self) -> dict[str, Any]:
        """The record as plain JSON data, without `child`, and without what is empty; not to be changed."""
        return self._final_data if self.is_over else self._make_data()

    @functools.cached_property
    def _final_data(self) -> dict[str, Any]:
        final: dict[str, Any] = sealed(self._make_data(), depth=RECORD_DEPTH)
        return final

    def _make_data(self) -> dict[str, Any]:
        data: dict[str, Any] = {"status": self.status, "wave": self.wave}
        mine = vars(self)
        for name in _DATA:
            value = mine[name]
            if value is not None and value != {}:
                data[name] = value
        if self.attempts != 1:
            data["attempts"] = self.attempts
        if self.is_dropped:
            data["is_dropped"] = True
        if self.has_answers:
            data["has_answers"] = True
        if self.items is not None:
            data["items"] = {key: item.data for key, item in self.items.items()}
        return data

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> "BlockRecord":
        """The record that `data` was made of.

        Raises:
            TypeError: It was not made by this program.
            AttributeError: As above.
        """
        items = data.get("items")
        if items is None:
            return cls(**data)
        return cls(**{**data, "items": {key: cls.from_data(item) for key, item in items.items()}})

    def without_data(self) -> "BlockRecord":
        """The same without what can be large."""
        items = None if self.items is None else {key: item.without_data() for key, item in self.items.items()}
        return BlockRecord(
            self.status,
            self.wave,
            message=self.message,
            started_at=self.started_at,
            completed_at=self.completed_at,
            attempts=self.attempts,
            mode=self.mode,
            items=items,
            is_dropped=True,
            has_answers=self.holds_answer,
        )

    @property
    def readable(self) -> dict[str, Any]:
        """What expressions can read of it, once it is over."""
        shortcuts = {
            "status": self.status,
            "succeeded": self.status == "succeeded",
            "failed": self.status == "failed",
            "skipped": self.status == "skipped",
        }
        started, completed = self.started_at, self.completed_at
        metadata = {
            **shortcuts,
            "started_at": started,
            "completed_at": completed,
            "execution_time_ms": None if started is None or completed is None else (completed - started) * 1000,
            "message": self.message,
            "wave": self.wave,
        }
        if self.items is None:
            metadata["attempts"] = self.attempts
            return {**shortcuts, "metadata": metadata, "inputs": self.inputs or {}, "outputs": self.outputs}
        statuses = [item.status for item in self.items.values()]
        metadata.update(
            count=len(statuses),
            count_failed=statuses.count("failed"),
            count_skipped=statuses.count("skipped"),
            mode=self.mode,
        )
        items = {key: item.readable for key, item in self.items.items()}
        return {**items, **shortcuts, "metadata": metadata}
