"""Rows of the table as the store takes them: also those that no store has written.

SQLite holds any type in any column, and a file may come from anywhere. No such row makes a listing fail.
"""

import itertools
from collections.abc import Sequence
from typing import Any

from workflows_mcp.engine.checkpoint import STATUSES, CheckpointMetadata
from workflows_mcp.engine.filters import Position, check_name
from workflows_mcp.persistence.statements import METADATA_FIELDS

__all__ = ["base_of", "first_within", "is_odd", "metadata_of", "position_in", "shown_text"]

_TEXTS, _MAYBE_TEXTS = ("workflow_name", "status", "encoding"), ("pause_prompt", "run_id", "parent_checkpoint_id")
_COUNTS = ("current_wave_index", "schema_version", "full_bytes", "stored_bytes")
_TRUTHS = ("is_paused", "superseded", "pinned")

_TYPES: dict[str, tuple[type, ...]] = {
    "checkpoint_id": (str,),
    "created_at": (float,),
    "lease_expires_at": (float, type(None)),
    **dict.fromkeys(_TEXTS, (str,)),
    **dict.fromkeys(_MAYBE_TEXTS, (str, type(None))),
    **dict.fromkeys(_COUNTS, (int,)),
    **dict.fromkeys(_TRUTHS, (bool, int)),  # a driver may give them as 0 or 1
}
_FITTING_TYPES = frozenset(itertools.product(*(_TYPES[name] for name in METADATA_FIELDS)))
"""All combinations: one look tells whether every column has a type that it may have."""

_STATUS, _SUPERSEDED, _LEASE = map(METADATA_FIELDS.index, ("status", "superseded", "lease_expires_at"))
_TRUTH_INDEXES = [METADATA_FIELDS.index(name) for name in _TRUTHS]


def metadata_of(row: Sequence[Any]) -> CheckpointMetadata:
    """The metadata of a row of a listing.

    What is of a wrong type is shown as text, or as nothing. Only the id and the time stay what they are: they are the
    row's place in the order.
    """
    fields = list(row)
    if tuple(map(type, fields)) not in _FITTING_TYPES:
        fields = [_fitting(name, value) for name, value in zip(METADATA_FIELDS, fields, strict=True)]
    if fields[_SUPERSEDED]:
        fields[_LEASE] = None  # its lease ended when it was followed
    for index in _TRUTH_INDEXES:
        fields[index] = bool(fields[index])
    # A status that this version does not know is listed as it is.
    fields[_STATUS] = STATUSES.get(fields[_STATUS], fields[_STATUS])
    return CheckpointMetadata(*fields)


def _fitting(name: str, value: Any) -> Any:  # noqa: ANN401 - whatever is in the table
    if name in {"checkpoint_id", "created_at"} or type(value) in _TYPES[name]:
        return value
    if name in _TEXTS or name in _MAYBE_TEXTS:
        return shown_text(value)
    if name == "lease_expires_at":
        return None
    return 0 if name in _COUNTS else bool(value)


def shown_text(value: object) -> str:
    """Text as it is, anything else as text."""
    return value if isinstance(value, str) else repr(value)


def position_in(row: Sequence[Any]) -> Position:
    """The place in the order of a row that begins with it."""
    created_at, checkpoint_id, *_ = row
    return created_at, checkpoint_id


def is_odd(checkpoint_id: object) -> bool:
    """Whether no store would have taken this id, so that it may have to be looked for in a way of its own."""
    try:
        check_name("checkpoint_id", checkpoint_id)
    except ValueError:
        return True
    return False


def base_of(row: Sequence[Any]) -> Any:  # noqa: ANN401 - SQLite holds any type in any column
    """The id of what a row is a delta of, as a `Loading` loads it; None: it is stored whole."""
    return row[-4]


def first_within(rows: Sequence[Sequence[Any]], most_bytes: int) -> Sequence[Sequence[Any]]:
    """The first rows whose payloads, by the last column, have about so many bytes together; at least one."""
    sizes = itertools.accumulate(max(row[-1], 0) if isinstance(row[-1], int) else 0 for row in rows)
    return rows[: max(1, sum(size <= most_bytes for size in sizes))]
