"""The checkpoint storage guide's export: a JSON array of states, of which each lacks some fields."""

import json
import re
from collections.abc import Iterator
from typing import Any

from workflows_mcp.engine.checkpoint import STATE_SCHEMA_VERSION, CheckpointState
from workflows_mcp.engine.state_json import build_state
from workflows_mcp.engine.stored import StoredCheckpoint
from workflows_mcp.errors import CheckpointEncodeError, CheckpointFileError, CheckpointStoreError

__all__ = ["MAX_ARRAY_BYTES", "read_array"]

MAX_ARRAY_BYTES = 100 * 2**20
"""The largest array that is read; it is in memory as a whole."""


def read_array(data: bytes) -> list[StoredCheckpoint]:
    """The checkpoints of an array. Each is a head, not pinned, and was never leased.

    Raises:
        CheckpointFileError: It is no such array, or holds what no store takes; the message names the record, from 1.
    """
    if len(data) > MAX_ARRAY_BYTES:
        raise CheckpointFileError(
            f"a JSON array of more than {MAX_ARRAY_BYTES // 2**20} MiB is not read, since it is in memory as a whole; "
            "split it"
        )
    found = list(_checkpoints(_records(data)))
    places: dict[str, int] = {}
    for number, one in enumerate(found, start=1):
        first = places.setdefault(one.checkpoint_id, number)
        if first != number:
            raise CheckpointFileError(f"records {first} and {number} of the array have the same checkpoint_id")
    return found


def _checkpoints(records: Iterator[object]) -> Iterator[StoredCheckpoint]:
    for number, record in enumerate(records, start=1):
        problem = "it is no JSON object"
        stored = None
        if isinstance(record, dict):
            try:
                stored = StoredCheckpoint(_state(record))
                stored.require_fit()
            except CheckpointEncodeError as error:  # names the path to what is wrong, and not the value
                problem, stored = str(error), None
            except CheckpointStoreError:
                problem, stored = "its fields are missing, unknown, or not of their types", None
        if stored is None:
            raise CheckpointFileError(f"record {number} of the array is no state: {problem}")
        yield stored


def _state(record: dict[str, Any]) -> CheckpointState:
    created_at = record.get("created_at")
    is_whole = type(created_at) is int and abs(created_at) < 2**53
    fields = {"schema_version": STATE_SCHEMA_VERSION, **record}
    if is_whole and isinstance(created_at, int):
        fields["created_at"] = float(created_at)
    return build_state(fields, "?")


def _records(data: bytes) -> Iterator[object]:
    """The values in a JSON array, one after the other: what is no record takes no more memory than one value does."""
    text = _decoded(data)
    place = _behind_space(text, 0)
    mark = text[place : place + 1]
    first = _behind_space(text, place + 1)
    if mark == "[" and text[first : first + 1] == "]":
        place, mark = first, "]"
    while mark in {"[", ","}:
        parsed = _parsed(text, _behind_space(text, place + 1))
        if parsed is None:
            break
        record, place = parsed
        yield record
        place = _behind_space(text, place)
        mark = text[place : place + 1]
    if mark != "]" or _behind_space(text, place + 1) != len(text):
        raise CheckpointFileError("the file begins like a JSON array of states, and is none: it was cut off or changed")


_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return ""


def _behind_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return place if found is None else found.end()


def _parsed(text: str, place: int) -> tuple[object, int] | None:
    """A value and the place behind it; None: there is none."""
    # The stdlib wrote it, NaN included, which is then refused by name.
    try:
        return _DECODER.raw_decode(text, place)
    except (ValueError, RecursionError):
        return None
