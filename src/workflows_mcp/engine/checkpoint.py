"""What is kept of a run: the state, its listing view, and how much of it to keep."""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from workflows_mcp.engine.policies import (
    Limits,
    RetentionPolicy,
    RetentionRules,
    check_most,
    check_policies,
    check_positive,
)

if TYPE_CHECKING:
    from workflows_mcp.settings import Settings

__all__ = [
    "STATE_SCHEMA_VERSION",
    "STATUSES",
    "CheckpointConfig",
    "CheckpointMetadata",
    "CheckpointState",
    "CheckpointStats",
    "CheckpointStatus",
]

STATE_SCHEMA_VERSION = 1
"""The version of a state's JSON that this code writes, and the newest one that it reads."""


class CheckpointStatus(StrEnum):
    """What a run was doing when its checkpoint was saved."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


STATUSES = {str(status): status for status in CheckpointStatus}
"""All of them by their text."""

# Looking up a member of an enumeration takes ten times as long as a global name, and a save does so five times.
_RUNNING, _PAUSED = CheckpointStatus.RUNNING, CheckpointStatus.PAUSED


@dataclass(frozen=True)
class CheckpointState:
    """The full value of a checkpoint: all that a process needs to continue the run.

    Everything in it is plain JSON data: `dict` with `str` keys, `list`, `str`, `int`, `float`, `bool`, `None`.
    A store gives back exactly what was saved, or refuses to save it (`CheckpointEncodeError`).

    Attributes:
        checkpoint_id: Names the checkpoint; saving the same id again replaces it. 1 to 512 UTF-8 bytes.
        workflow_name: Names the workflow. 1 to 512 UTF-8 bytes.
        created_at: Unix time in seconds; decides the order of checkpoints.
        runtime_inputs: The inputs that the run was started with.
        context: What the run knows so far, such as the outputs of its blocks.
        completed_blocks: Ids of the blocks that are done.
        current_wave_index: Index into `execution_waves` of the wave to run next.
        execution_waves: Block ids by wave; the blocks of one wave may run at the same time.
        block_definitions: The blocks' definitions, by block id.
        workflow_stack: One frame a nesting level, the outermost workflow first.
        parent_checkpoint_id: The checkpoint that this run was forked from.
        paused_block_id: The block that waits for an answer; makes the status `paused`.
        pause_prompt: What a human is asked.
        pause_metadata: Anything else about the pause.
        child_checkpoint_id: For callers that nest runs of their own.
        schema_version: Version of this value's JSON form.
        run_id: Shared by the checkpoints of one run; None: it belongs to no run. 1 to 512 UTF-8 bytes.
        status: What the run was doing; a `str` of a `CheckpointStatus` is taken too.

    Raises:
        ValueError: `created_at` is no finite number, `status` is unknown, or `status` and `paused_block_id`
            disagree.
    """

    checkpoint_id: str
    workflow_name: str
    created_at: float
    runtime_inputs: dict[str, Any]
    context: dict[str, Any]
    completed_blocks: list[str]
    current_wave_index: int
    execution_waves: list[list[str]]
    block_definitions: dict[str, Any]
    workflow_stack: list[Any]
    parent_checkpoint_id: str | None = None
    paused_block_id: str | None = None
    pause_prompt: str | None = None
    pause_metadata: dict[str, Any] | None = None
    child_checkpoint_id: str | None = None
    schema_version: int = STATE_SCHEMA_VERSION
    run_id: str | None = None
    status: CheckpointStatus = CheckpointStatus.RUNNING

    def __post_init__(self) -> None:
        if type(self.created_at) is not float or not math.isfinite(self.created_at) or not self.created_at:
            object.__setattr__(self, "created_at", _finite_seconds(self.created_at))
        status = self.status
        if type(status) is not CheckpointStatus:
            status = _status_of(status)
            object.__setattr__(self, "status", status)
        if self.paused_block_id is not None and status is _RUNNING:
            status = _PAUSED
            object.__setattr__(self, "status", status)
        if (self.paused_block_id is not None) != (status is _PAUSED):
            raise ValueError(
                f"a {status} checkpoint needs a paused_block_id"
                if status is _PAUSED
                else f"a checkpoint with a paused_block_id cannot be {status}"
            )

    @property
    def is_paused(self) -> bool:
        """Whether the run waits for an answer."""
        return self.status is _PAUSED

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "CheckpointState":
        """Make a state of its fields by name, as they stand in its JSON.

        Raises:
            ValueError: A field is missing or unknown, or their values disagree.
        """
        if tuple(fields) != _FIELDS:
            unknown = fields.keys() - set(_FIELDS)
            if unknown:
                raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}")
            missing = _REQUIRED_FIELDS - fields.keys()
            if missing:
                raise ValueError(f"missing fields: {', '.join(sorted(missing))}")
            return cls(**fields)
        # A frozen dataclass's own __init__ sets its fields one by one, which takes longer than parsing a small state.
        state = object.__new__(cls)
        vars(state).update(fields)
        state.__post_init__()
        return state


_FIELDS = tuple(field.name for field in dataclasses.fields(CheckpointState))
_REQUIRED_FIELDS = frozenset(
    field.name for field in dataclasses.fields(CheckpointState) if field.default is dataclasses.MISSING
)


def _status_of(value: object) -> CheckpointStatus:
    if not isinstance(value, str) or value not in STATUSES:
        raise ValueError(f"status {value!r} is not one of: {', '.join(CheckpointStatus)}")
    return STATUSES[value]


def _finite_seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"created_at must be Unix seconds, not {type(value).__name__}")  # noqa: TRY004 - the contract says ValueError
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise ValueError("created_at must be finite")
    return seconds or 0.0  # not -0.0, which SQLite keeps as 0.0


_NOT_IN_CURSOR = re.compile("[\0\ud800-\udfff]")
"""What may be in an id of a table of another origin, and in no text for a database."""

_LAST_TEXT = "\U0010ffff"


@dataclass(frozen=True)
class CheckpointMetadata:
    """The listing view of a checkpoint: what is known without reading its payload.

    Attributes:
        checkpoint_id: Names the checkpoint.
        workflow_name: Names the workflow.
        created_at: Unix time in seconds.
        is_paused: Whether it waits: paused, and not yet followed by another checkpoint of its run.
        pause_prompt: What a human is asked; U+FFFD stands for a U+0000.
        run_id: Shared by the checkpoints of one run.
        status: What the run was doing.
        parent_checkpoint_id: The checkpoint that this run was forked from.
        superseded: Whether another checkpoint of the run follows this one; False: it is the run's head.
        current_wave_index: The wave to run next.
        pinned: Whether retention leaves it alone.
        schema_version: Version of the state's JSON form.
        lease_expires_at: Unix time in seconds at which its lease ends, or ended by running out or being released; None:
            it is not leased, or history.
        full_bytes: Size of the state's plain JSON.
        stored_bytes: Size of the payload as stored.
        encoding: How the payload is encoded.
    """

    checkpoint_id: str
    workflow_name: str
    created_at: float
    is_paused: bool
    pause_prompt: str | None = None
    run_id: str | None = None
    status: CheckpointStatus = CheckpointStatus.RUNNING
    parent_checkpoint_id: str | None = None
    superseded: bool = False
    current_wave_index: int = 0
    pinned: bool = False
    schema_version: int = STATE_SCHEMA_VERSION
    lease_expires_at: float | None = None
    full_bytes: int = 0
    stored_bytes: int = 0
    encoding: str = "json"

    @property
    def cursor(self) -> str:
        """This checkpoint's place in the order of a listing, as text for `before`.

        Of a row that no store has written it may be a place shortly behind.
        """
        seconds, checkpoint_id = self.created_at, self.checkpoint_id
        if type(seconds) is not float or math.isnan(seconds):
            seconds = math.inf  # what is no number comes first in a listing, in all databases
        if type(checkpoint_id) is not str:
            checkpoint_id = _LAST_TEXT  # SQLite has bytes before all text, in a listing
        readable = _NOT_IN_CURSOR.split(checkpoint_id, maxsplit=1)[0]
        if not readable:
            return f"{math.nextafter(seconds, -math.inf)!r},{_LAST_TEXT}"
        return f"{seconds!r},{readable}"

    @property
    def is_delta(self) -> bool:
        """Whether it is stored as what differs from another checkpoint; see `CheckpointStore.list_bases`."""
        return self.encoding.endswith("-delta")


@dataclass(frozen=True)
class CheckpointStats:
    """What a store holds, counted by the database without reading a payload.

    Attributes:
        total_checkpoints: All of them.
        paused_checkpoints: Those that wait for an answer.
        automatic_checkpoints: The others.
        workflows: Number of checkpoints by workflow name, sorted by name.
        oldest_checkpoint: The smallest `created_at`; None when there is no checkpoint.
        newest_checkpoint: The largest `created_at`; None when there is no checkpoint.
        full_bytes: Plain JSON bytes of all states.
        stored_bytes: Payload bytes as stored.
        database_bytes: What the table and its indexes, or the database file, take up.
    """

    total_checkpoints: int
    paused_checkpoints: int
    automatic_checkpoints: int
    workflows: dict[str, int]
    oldest_checkpoint: float | None
    newest_checkpoint: float | None
    full_bytes: int
    stored_bytes: int
    database_bytes: int


@dataclass(frozen=True)
class CheckpointConfig:
    """Which checkpoints an executor saves, and how much of them is kept.

    Attributes:
        enabled: False: only pauses and ends are saved. A crashed run cannot be continued, an id does not keep a run
            from being begun twice before its first pause or end, and an answer is durable only with what is saved next.
        max_per_workflow: How many checkpoints of a workflow retention keeps; None: no limit.
        ttl_seconds: The age in seconds after which retention deletes; None: no limit.
        keep_paused: Whether retention leaves waiting checkpoints alone.
        auto_cleanup: Whether the executor runs retention in the background.
        cleanup_interval_seconds: Seconds between two rounds of retention.
        max_checkpoint_size_mb: Largest plain JSON of a state, in units of 2**20 bytes; a larger one fails the
            run; None: no limit but the store's own.
        checkpoint_every: Whether an executor saves after every `wave`, or after every `block` as well.
        policies: What retention does otherwise with the checkpoints of some workflows, by their exact names.

    Raises:
        ValueError: A value is out of range.
    """

    enabled: bool = True
    max_per_workflow: int | None = 50
    ttl_seconds: float | None = 7 * 86400
    keep_paused: bool = True
    auto_cleanup: bool = True
    cleanup_interval_seconds: float = 3600
    max_checkpoint_size_mb: float | None = 10.0
    checkpoint_every: Literal["wave", "block"] = "wave"
    policies: Mapping[str, RetentionPolicy] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_most(self.max_per_workflow)
        for name in ("ttl_seconds", "max_checkpoint_size_mb"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        check_positive("cleanup_interval_seconds", self.cleanup_interval_seconds)
        if self.checkpoint_every not in {"wave", "block"}:
            raise ValueError("checkpoint_every must be 'wave' or 'block'")
        object.__setattr__(self, "policies", check_policies(self.policies))

    @classmethod
    def from_settings(cls, settings: "Settings") -> "CheckpointConfig":
        """The configuration that the settings ask for."""
        policies = {name: RetentionPolicy(**options.given) for name, options in settings.retention.items()}
        return cls(**settings.checkpoint_options, policies=policies)

    @property
    def max_checkpoint_bytes(self) -> int | None:
        """`max_checkpoint_size_mb` in bytes of plain JSON."""
        return None if self.max_checkpoint_size_mb is None else int(self.max_checkpoint_size_mb * 2**20)

    @property
    def retention_rules(self) -> RetentionRules:
        """What a round of retention goes by."""
        general = Limits(self.max_per_workflow, self.ttl_seconds, self.keep_paused)
        return RetentionRules(general, {name: general.under(policy) for name, policy in self.policies.items()})
