"""States to be saved, values that must come back exactly, and those that must be refused."""

import dataclasses
import datetime
import decimal
import enum
import math
import time
import uuid
from collections import OrderedDict, namedtuple
from typing import Any

from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.engine.plain_json import MAX_DEPTH
from workflows_mcp.engine.state_json import encode_state

__all__ = ["BAD_NAMES", "EXACT_VALUES", "GOOD_NAMES", "REFUSED_VALUES", "assert_same", "make_state"]


def make_state(checkpoint_id: str = "checkpoint", **fields: Any) -> CheckpointState:  # noqa: ANN401 - any field
    """A small state; fields that are not given are empty, and it was created just now."""
    defaults: dict[str, Any] = {
        "workflow_name": "workflow",
        "created_at": time.time(),
        "runtime_inputs": {},
        "context": {},
        "completed_blocks": [],
        "current_wave_index": 0,
        "execution_waves": [],
        "block_definitions": {},
        "workflow_stack": [],
    }
    return CheckpointState(checkpoint_id=checkpoint_id, **{**defaults, **fields})


def assert_same(loaded: CheckpointState | None, saved: CheckpointState) -> None:
    """Assert that a state came back exactly: equal, of the same types, with keys in the same order."""
    assert loaded == saved
    # Equality takes True for 1 and 1.0, and -0.0 for 0; JSON tells them apart.
    assert loaded is not None
    assert encode_state(loaded) == encode_state(saved)


def nested(depth: int) -> dict[str, Any]:
    """Dicts inside one another."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"in": value}
    return value


class _Text(enum.StrEnum):
    ONE = "one"


class _Number(enum.IntEnum):
    ONE = 1


class _TextOfAKind(str):
    __slots__ = ()


class _ListOfAKind(list[Any]):
    pass


@dataclasses.dataclass
class _Data:
    one: int = 1


_Pair = namedtuple("_Pair", "one two")  # noqa: PYI024 - one more kind of tuple to be refused

_cyclic: dict[str, Any] = {}
_cyclic["self"] = _cyclic

EXACT_VALUES: dict[str, Any] = {
    "true and one": [True, 1, 1.0, False, 0, 0.0, None],
    "minus zero": -0.0,
    "floats": [0.1, 1e308, 5e-324, 1.7976931348623157e308, 1e16, 1e22, -1.5],
    "integers": [2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)],
    "text": ["", "\0", "a\0b", "ünï", "日本語", "🙂", "\u2028", "\ufeff", "\x7f", '"\\/', "\ud7ff\ue000", "\U0010ffff"],
    "keys": {"": 1, "\0": 2, "b": 3, "a": 4, "🙂": 5, "$ref": 6, "__class__": 7},
    "empty": [[], {}, [[]], [{}], {"a": {}}],
    "order": {"z": 1, "a": {"y": 1, "b": 2}, "m": 3},
    "deep": nested(MAX_DEPTH - 1),
    "long text": "x" * 100_000,
}

REFUSED_VALUES: dict[str, Any] = {
    "datetime": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "date": datetime.date(2026, 1, 1),
    "NaN": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "tuple": (1, 2),
    "named tuple": _Pair(1, 2),
    "set": {1},
    "frozenset": frozenset({1}),
    "bytes": b"bytes",
    "bytearray": bytearray(b"bytes"),
    "decimal": decimal.Decimal(1),
    "uuid": uuid.UUID(int=1),
    "complex": 1j,
    "str enum": _Text.ONE,
    "int enum": _Number.ONE,
    "str subclass": _TextOfAKind("a"),
    "list subclass": _ListOfAKind(),
    "dict subclass": OrderedDict(a=1),
    "dataclass": _Data(),
    "object": object(),
    "class": int,
    "int key": {1: "a"},
    "None key": {None: "a"},
    "tuple key": {(1, 2): "a"},
    "str enum key": {_Text.ONE: "a"},
    "lone surrogate": "\ud800",
    "lone surrogate in a key": {"\udfff": 1},
    "integer too large": 2**64,
    "integer too small": -(2**63) - 1,
    "too deep": nested(MAX_DEPTH),
    "cycle": _cyclic,
}

BAD_NAMES: dict[str, Any] = {
    "empty": "",
    "too long": "x" * 513,
    "too long in UTF-8": "ü" * 257,
    "NUL": "a\0b",
    "lone surrogate": "\ud800",
    "not text": 7,
    "None": None,
}

GOOD_NAMES = (
    "x" * 512,
    "ü" * 256,
    " ",
    "a b",
    "a'b\"c",
    "%s %%",
    "../../etc",
    "\u202egnp.exe",
    "🙂",
    "NULL",
    "0",
    "\n",
    "a,b",
)
