"""The arguments that every store takes: ids, limits, filters and cursors, checked once and alike."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState, CheckpointStatus
from workflows_mcp.engine.names import MAX_NAME_BYTES, check_name

__all__ = [
    "MAX_NAME_BYTES",
    "CheckpointFilter",
    "Position",
    "WorkflowScope",
    "check_age",
    "check_columns",
    "check_count",
    "check_flag",
    "check_name",
    "check_seconds",
    "position_before",
    "position_of",
]

Position = tuple[float, str]
"""A checkpoint's place in the one order of all stores: (`created_at`, `checkpoint_id`), larger is newer."""


def _is_text(text: str) -> bool:
    """Whether every database can be given it as text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def check_columns(state: CheckpointState) -> None:
    """Check the values that a store keeps in columns of their own.

    Raises:
        ValueError: One of them does not fit.
    """
    check_name("checkpoint_id", state.checkpoint_id)
    check_name("workflow_name", state.workflow_name)
    if state.run_id is not None:
        check_name("run_id", state.run_id)
    if state.parent_checkpoint_id is not None:
        check_name("parent_checkpoint_id", state.parent_checkpoint_id)
    index: object = state.current_wave_index  # the type is checked when it is encoded
    if isinstance(index, int) and not -(2**31) <= index < 2**31:
        raise ValueError("current_wave_index must fit into 32 bits")


def check_count(what: str, value: object, *, at_least: int) -> int:
    """The value, if it is a whole number that is large enough.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value < 2**63:
        raise ValueError(f"{what} must be a whole number of at least {at_least}, not {value!r}")
    return value


def check_flag(what: str, value: object) -> bool:
    """The value, if it is True or False.

    Raises:
        ValueError: It is not.
    """
    if type(value) is not bool:
        raise ValueError(f"{what} must be True or False")
    return value


def check_seconds(what: str, value: object) -> float:
    """The value, if it is a finite number, as a float.

    Raises:
        ValueError: It is not.
    """
    try:
        seconds = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise ValueError(f"{what} must be a finite number of seconds")
    return seconds


def check_age(max_age_seconds: float) -> float:
    """The age, if it is a finite number of seconds of at least 0.

    Raises:
        ValueError: It is not.
    """
    if check_seconds("max_age_seconds", max_age_seconds) < 0:
        raise ValueError("max_age_seconds must be at least 0")
    return float(max_age_seconds)


@dataclass(frozen=True)
class CheckpointFilter:
    """Which checkpoints a listing holds. A filter that is None, or False (`heads_only`, `runs_only`), lets all pass.

    Raises:
        ValueError: A filter's value makes no sense.
    """

    workflow_name: str | None = None
    run_id: str | None = None
    status: CheckpointStatus | str | None = None
    is_paused: bool | None = None
    heads_only: bool = False
    created_after: float | None = None
    created_before: float | None = None
    id_contains: str | None = None
    runs_only: bool = False

    def __post_init__(self) -> None:
        # "" is a name like another, which a table of another origin may hold.
        if self.workflow_name is not None and (type(self.workflow_name) is not str or self.workflow_name):
            check_name("workflow_name", self.workflow_name)
        if self.run_id is not None:
            check_name("run_id", self.run_id)
        if self.id_contains is not None:
            check_name("id_contains", self.id_contains)  # no id has what no name may have
        if self.status is not None:
            object.__setattr__(self, "status", CheckpointStatus(self.status))
        for what, kinds in (("is_paused", {bool, type(None)}), ("heads_only", {bool}), ("runs_only", {bool})):
            if type(getattr(self, what)) not in kinds:
                raise ValueError(f"{what} must be True or False")
        for what in ("created_after", "created_before"):
            value = getattr(self, what)
            if value is not None:
                object.__setattr__(self, what, check_seconds(what, value))

    def matches(self, metadata: CheckpointMetadata) -> bool:
        """Whether the listing holds this one."""
        return (
            (self.workflow_name is None or metadata.workflow_name == self.workflow_name)
            and (self.run_id is None or metadata.run_id == self.run_id)
            and (self.status is None or metadata.status == self.status)
            and (self.is_paused is None or metadata.is_paused is self.is_paused)
            and not (self.heads_only and metadata.superseded)
            and not (self.runs_only and metadata.run_id is None)
            and (self.created_after is None or metadata.created_at >= self.created_after)
            and (self.created_before is None or metadata.created_at < self.created_before)
            and (self.id_contains is None or self._is_in_an_id(self.id_contains, metadata))
        )

    @staticmethod
    def _is_in_an_id(text: str, metadata: CheckpointMetadata) -> bool:
        return text in metadata.checkpoint_id or (metadata.run_id is not None and text in metadata.run_id)


@dataclass(frozen=True)
class WorkflowScope:
    """Whose checkpoints retention looks at.

    Attributes:
        workflow_name: This workflow's alone; None: all workflows'.
        except_workflows: None of these workflows'.

    Raises:
        ValueError: A name is not fit to be one, or one workflow is named and others are left out.
    """

    workflow_name: str | None = None
    except_workflows: Collection[str] = ()

    def __post_init__(self) -> None:
        if self.workflow_name is not None and (type(self.workflow_name) is not str or self.workflow_name):
            check_name("workflow_name", self.workflow_name)
        if isinstance(self.except_workflows, str) or not isinstance(self.except_workflows, Collection):
            raise ValueError("except_workflows must be a collection of names")  # noqa: TRY004 - the contract says ValueError
        for name in self.except_workflows:
            check_name("a name in except_workflows", name)
        if self.workflow_name is not None and self.except_workflows:
            raise ValueError("either workflow_name or except_workflows can be given, not both")
        object.__setattr__(self, "except_workflows", frozenset(self.except_workflows))

    @property
    def is_everything(self) -> bool:
        """Whether no workflow is left out."""
        return self.workflow_name is None and not self.except_workflows

    def takes(self, workflow_name: str) -> bool:
        """Whether a workflow is looked at."""
        if self.workflow_name is not None:
            return workflow_name == self.workflow_name
        return workflow_name not in self.except_workflows


def position_of(metadata: CheckpointMetadata) -> Position:
    """A checkpoint's place in the order."""
    return metadata.created_at, metadata.checkpoint_id


def position_before(before: CheckpointMetadata | str | None) -> Position | None:
    """The place that `before` names: a page's last metadata, or its `cursor`.

    Raises:
        ValueError: The text is no cursor.
    """
    if before is None:
        return None
    if isinstance(before, CheckpointMetadata):
        return position_of(before)
    if isinstance(before, str):
        seconds, comma, checkpoint_id = before.partition(",")
        try:
            place = float(seconds)
        except ValueError:
            place = math.nan
        # Not checked as a time and an id to be saved: tables of another origin hold others, and list them.
        if comma and checkpoint_id and not math.isnan(place) and _is_text(checkpoint_id):
            return place, checkpoint_id
    raise ValueError("before must be the last metadata of the previous page, or its cursor")
