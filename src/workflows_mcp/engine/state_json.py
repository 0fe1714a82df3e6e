"""A state as plain JSON bytes and back: exact, or refused.

This is the one place that decides what a state may hold, so that every store accepts and refuses the same.
`orjson` would quietly turn tuples, dates, enums, NaN and more into something else; the walk before it refuses
them by their exact type and knows the path to the culprit.
"""

import contextlib
import itertools
import math
import operator
from collections.abc import Collection
from typing import Any

import orjson

from workflows_mcp.engine.checkpoint import STATE_SCHEMA_VERSION, CheckpointState
from workflows_mcp.engine.filters import check_count
from workflows_mcp.engine.observing import note_bytes
from workflows_mcp.engine.pointers import Step, dotted
from workflows_mcp.errors import CheckpointDecodeError, CheckpointEncodeError, CheckpointTooLargeError

__all__ = [
    "IMPORTING",
    "MAX_DEPTH",
    "MAX_STATE_BYTES",
    "copy_json",
    "decode_state",
    "encode_state",
    "sealed",
    "sealed_with",
    "why_not_json",
]

IMPORTING = "workflows-mcp checkpoints import FILE --on-conflict replace"
"""Puts checkpoints back that are damaged, out of a file that they were exported to."""

MAX_DEPTH = 100
"""How many lists and dicts may stand inside one another in a field of a state."""

MAX_STATE_BYTES = 256 * 2**20
"""The largest plain JSON of a state that any store takes, and the most that decoding one may unpack."""

_SMALLEST_INT, _LARGEST_INT = -(2**63), 2**64 - 1

# The walk refuses every value that these options are about; they stand here so that a hole in the walk
# ends in orjson's TypeError, not in a changed value. Keys and the size of integers are left to orjson alone.
_EXACT = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


class _SealedDict(dict[str, Any]):
    __slots__ = ("json",)

    json: bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)  # a copy may be changed, and so is no sealed one


class _SealedList(list[Any]):
    __slots__ = ("json",)

    json: bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "checkpoint_id": (str,),
    "workflow_name": (str,),
    "created_at": (float,),
    "runtime_inputs": (dict, _SealedDict),
    "context": (dict,),
    "completed_blocks": (list,),
    "current_wave_index": (int,),
    "execution_waves": (list, _SealedList),
    "block_definitions": (dict, _SealedDict),
    "workflow_stack": (list,),
    "parent_checkpoint_id": (str, type(None)),
    "paused_block_id": (str, type(None)),
    "pause_prompt": (str, type(None)),
    "pause_metadata": (dict, type(None)),
    "child_checkpoint_id": (str, type(None)),
    "schema_version": (int,),
    "run_id": (str, type(None)),
}

_FIELD_VALUES = operator.attrgetter(*_FIELD_TYPES)
_FITTING_TYPES = frozenset(itertools.product(*_FIELD_TYPES.values()))
"""All combinations: one look tells whether every field has a type that it may have."""

_SCALARS = frozenset({str, int, bool, type(None)})
"""The types whose values are JSON, whatever they are; what else must be known of them, orjson knows."""

_MANY = 32
"""From how many values on it is quicker to look at the set of their types first."""


_SEALED = frozenset({_SealedDict, _SealedList})

_UNQUESTIONED = _SCALARS | _SEALED
"""The types whose values are JSON, or were found to be."""


def _json_of(value: object) -> orjson.Fragment:
    if isinstance(value, _SealedDict | _SealedList):
        return orjson.Fragment(value.json)
    raise TypeError


class _NotJSONError(Exception):
    """A value that is not plain JSON; the path to it grows, innermost first, while this is raised."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: list[Step] = []


def encode_state(state: CheckpointState, *, max_bytes: int | None = None) -> bytes:
    """The plain JSON of a state.

    Args:
        state: What to encode; not changed, and not referred to afterwards.
        max_bytes: The most bytes that the JSON may have, besides `MAX_STATE_BYTES`.

    Raises:
        ValueError: `max_bytes` is no whole number of at least 1.
        CheckpointEncodeError: A value would not come back as it is; the message names its path.
        CheckpointTooLargeError: The JSON is larger than the limit.
    """
    values = _FIELD_VALUES(state)
    if tuple(map(type, values)) not in _FITTING_TYPES or not _is_json(values, 0):
        _check_fields(state)
    if state.schema_version != STATE_SCHEMA_VERSION:
        raise CheckpointEncodeError(
            f"checkpoint {state.checkpoint_id!r}: schema_version is {state.schema_version}, "
            f"and this version writes {STATE_SCHEMA_VERSION} only"
        )
    fields = dict(zip(_FIELD_TYPES, values, strict=True))
    fields["status"] = state.status._value_
    try:
        data = orjson.dumps(fields, _json_of, _EXACT)
    except TypeError as error:
        refusal = str(error)
        data = None
    if data is None:
        _check_fields(state)
        # Strings are checked by orjson alone, which is fast and knows no path.
        path = _find_bad_text(fields, [])
        raise CheckpointEncodeError(
            f"checkpoint {_shown(state.checkpoint_id)}: "
            + (f"{dotted(path)}: text with a lone surrogate is not JSON" if path else refusal)
        )
    limit = (
        MAX_STATE_BYTES if max_bytes is None else min(check_count("max_bytes", max_bytes, at_least=1), MAX_STATE_BYTES)
    )
    if len(data) > limit:
        raise CheckpointTooLargeError(
            f"checkpoint {state.checkpoint_id!r} of workflow {state.workflow_name!r} has {len(data):,} bytes of "
            f"JSON, and the limit is {limit:,}. Keep large data in files and their paths in the state, or raise "
            "max_checkpoint_size_mb"
        )
    note_bytes(len(data))
    return data


def copy_json(value: Any) -> Any:  # noqa: ANN401 - JSON data
    """A copy of plain JSON data, down to the last list."""
    if type(value) is dict:
        return {key: copy_json(item) for key, item in value.items()}
    return [copy_json(item) for item in value] if type(value) is list else value


def sealed(value: Any, *, depth: int) -> Any:  # noqa: ANN401 - JSON data
    """A dict or list that will not change any more, with its JSON: saving it costs no more than copying that.

    A run saves all it knows again and again, and little of that is new.

    Args:
        value: Never changed after this.
        depth: The greatest depth of a field at which it will stand in a state.

    Returns:
        An equal value; the same one, when it is not plain JSON: saving it is the time to say so.
    """
    json = _plain_json(value, depth) if type(value) in {dict, list} else None
    if json is None:
        return value
    made = _SealedDict(value) if type(value) is dict else _SealedList(value)
    made.json = json
    return made


def sealed_with(base: dict[str, Any], key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON data
    """A sealed dict, or an empty one, with an item more; the JSON of what was there before is not made anew."""
    if not isinstance(value, _SealedDict | _SealedList) or not (isinstance(base, _SealedDict) or not base):
        return {**base, key: value}
    made = _SealedDict(base)
    made[key] = value
    before = base.json[:-1] + b"," if isinstance(base, _SealedDict) and base else b"{"
    made.json = b"%b%b:%b}" % (before, orjson.dumps(key), value.json)
    return made


def decode_state(data: bytes | bytearray, checkpoint_id: str) -> CheckpointState:
    """The state that `encode_state` made these bytes of.

    Args:
        data: Plain JSON.
        checkpoint_id: The id that the state must have, for a payload that ended up in another's row.

    Raises:
        CheckpointDecodeError: The bytes are not a state's JSON, not this checkpoint's, or of a newer version.
    """
    note_bytes(len(data))
    fields = _parsed(data)
    # Raised outside any handler: the parser's error holds the payload, and must not be this one's context.
    if not isinstance(fields, dict):
        raise damaged(checkpoint_id, "it is not JSON, or no JSON object")
    if fields.get("checkpoint_id", checkpoint_id) != checkpoint_id:
        raise damaged(checkpoint_id, "it belongs to another checkpoint")
    return build_state(fields, checkpoint_id)


def why_not_json(value: object, name: str, *, depth: int = 1) -> str | None:
    """Why a state could not hold this value; None when it can.

    Args:
        value: Any value.
        name: What the value is called in the answer.
        depth: At which depth of a field the value will stand; 1 is the field itself.

    Returns:
        The path to the first culprit and what is wrong there (`outputs.when: datetime is not JSON`), never its value.
    """
    if _plain_json(value, depth) is not None:
        return None
    try:
        _check_value(value, depth)
    except _NotJSONError as refusal:
        return f"{dotted([name, *reversed(refusal.path)])}: {refusal}"
    path = _find_bad_text(value, [name])
    return None if path is None else f"{dotted(path)}: text with a lone surrogate is not JSON"


def build_state(fields: dict[str, Any], checkpoint_id: str) -> CheckpointState:
    """A state of decoded fields.

    Raises:
        CheckpointDecodeError: Fields are missing, unknown, or of a wrong type, or of a newer version.
    """
    version = fields.get("schema_version")
    if isinstance(version, int) and version > STATE_SCHEMA_VERSION:
        raise CheckpointDecodeError(
            f"checkpoint {checkpoint_id!r} was saved with schema version {version}, and this version of "
            f"workflows-mcp reads up to {STATE_SCHEMA_VERSION}: upgrade workflows-mcp"
        )
    if tuple(map(type, map(fields.get, _FIELD_TYPES))) not in _FITTING_TYPES:
        for name, types in _FIELD_TYPES.items():
            if name in fields and type(fields[name]) not in types:
                raise damaged(checkpoint_id, f"its {name} is a {type(fields[name]).__name__}")
    with contextlib.suppress(ValueError):
        return CheckpointState.from_fields(fields)
    # Which ones is not said: an unknown field's name, or a wrong value, is somebody's data.
    raise damaged(checkpoint_id, "its fields are missing, unknown, or contradict each other")


def damaged(checkpoint_id: str, why: str) -> CheckpointDecodeError:
    """The error for a payload that cannot be read."""
    error = CheckpointDecodeError(
        f"the payload of checkpoint {checkpoint_id!r} is damaged: {why}. Other checkpoints are unaffected, unless they "
        f"need it; restore {checkpoint_id!r} from a backup ({IMPORTING}), go on from an earlier checkpoint of its run, "
        "or delete it together with those that need it"
    )
    error.reason = f"is damaged: {why}"
    return error


def _parsed(data: bytes | bytearray) -> Any:  # noqa: ANN401 - any JSON
    """What JSON bytes say; None when they are no JSON."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _check_fields(state: CheckpointState) -> None:
    """Raise an error that names the first value which is not plain JSON, if there is one."""
    for (name, types), value in zip(_FIELD_TYPES.items(), _FIELD_VALUES(state), strict=True):
        try:
            _check_value(value, 1)
        except _NotJSONError as refusal:
            path, reason = [name, *reversed(refusal.path)], str(refusal)
        else:
            if type(value) in types:
                continue
            expected = " or ".join("None" if one is type(None) else one.__name__ for one in types if one not in _SEALED)
            path, reason = [name], f"must be {expected}, not {type(value).__name__}"
        raise CheckpointEncodeError(f"checkpoint {_shown(state.checkpoint_id)}: {dotted(path)}: {reason}")


def _is_json(values: Collection[Any], depth: int) -> bool:
    """Whether values are plain JSON, but for what orjson refuses by itself: keys that are no `str`, huge integers.

    With that, it says what `_check_value` says, without the path, in a third of the time: every save waits for it.
    """
    if len(values) > _MANY:
        kinds = set(map(type, values))
        if kinds <= _UNQUESTIONED or kinds == {float}:
            return float not in kinds or all(map(math.isfinite, values))
    for value in values:
        kind = type(value)
        if kind is str or kind is _SealedDict:
            continue
        if kind is dict or kind is list:
            inner = value.values() if kind is dict else value
            if depth >= MAX_DEPTH or (inner and not _is_json(inner, depth + 1)):
                return False
        elif not (kind in _UNQUESTIONED or (kind is float and math.isfinite(value))):
            return False
    return True


def _plain_json(value: object, depth: int) -> bytes | None:
    """The JSON of a value at a depth of a field; None when it is not plain JSON, for which there is no reason given."""
    if not _is_json((value,), depth - 1):
        return None
    try:
        return orjson.dumps(value, _json_of, _EXACT)
    except TypeError:
        return None


def _check_value(value: Any, depth: int) -> None:  # noqa: ANN401, C901, PLR0912 - any value, a branch for each kind
    kind = type(value)
    if kind is str or kind is bool or value is None or kind in _SEALED:
        return
    if kind is int:
        if not _SMALLEST_INT <= value <= _LARGEST_INT:
            raise _NotJSONError("int outside -2**63..2**64-1 is not portable JSON")
    elif kind is float:
        if not math.isfinite(value):
            raise _NotJSONError(f"{value} is not JSON")
    elif kind is dict:
        if depth > MAX_DEPTH:
            raise _NotJSONError(f"nesting deeper than {MAX_DEPTH}")
        for key, item in value.items():
            if type(key) is not str:
                raise _NotJSONError(f"a key of type {type(key).__name__} is not JSON, only str is")
            if type(item) is not str:
                try:
                    _check_value(item, depth + 1)
                except _NotJSONError as refusal:
                    refusal.path.append(key)
                    raise
    elif kind is list:
        if depth > MAX_DEPTH:
            raise _NotJSONError(f"nesting deeper than {MAX_DEPTH}")
        for index, item in enumerate(value):
            if type(item) is not str:
                try:
                    _check_value(item, depth + 1)
                except _NotJSONError as refusal:
                    refusal.path.append(index)
                    raise
    else:
        raise _NotJSONError(f"{kind.__name__} is not JSON")


def _find_bad_text(value: object, path: list[Step]) -> list[Step] | None:
    """The path to the first text, key or value, that UTF-8 cannot hold."""
    if isinstance(value, str):
        return None if _is_utf8(value) else path
    items: Any = ()
    if type(value) in _SEALED:
        return None
    if isinstance(value, dict):
        for key in value:
            if not _is_utf8(key):
                return [*path, key]
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        found = _find_bad_text(item, [*path, key])
        if found is not None:
            return found
    return None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(checkpoint_id: object) -> str:
    return repr(checkpoint_id) if isinstance(checkpoint_id, str) else f"<{type(checkpoint_id).__name__}>"
