"""Rows that no store of ours has written: what an attacker, a damaged disk or another program may leave behind."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backports import zstd

from workflows_mcp.engine.state_json import MAX_STATE_BYTES

__all__ = ["HOSTILE", "Hostile", "bombs"]

_WHOLE_BLOCK = 128 * 1024
"""What one block of a zstd frame unpacks to at the most; four bytes are enough to say so."""

_BOTH = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Hostile:
    """A row.

    Attributes:
        name: What is wrong with it; also its id, unless the columns name another.
        columns: Where it differs from a row that is fine.
        loads: Whether its state can be loaded all the same, since only what a listing shows is wrong.
        databases: Which of them take such a row.
        can_be_shown: Whether a command can print its state, too.
    """

    name: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    loads: bool = False
    databases: Sequence[str] = _BOTH
    can_be_shown: bool = True

    @property
    def checkpoint_id(self) -> object:
        """Its id, as it is in the table."""
        return self.columns.get("checkpoint_id", self.name)


def _checked(body: bytes) -> bytes:
    """A payload whose checksum is right."""
    return zlib.crc32(body).to_bytes(4, "big") + body


def _json(name: str, body: bytes) -> Hostile:
    return Hostile(name, {"encoding": "json", "payload": _checked(body)})


def _zstd(name: str, frame: bytes) -> Hostile:
    return Hostile(name, {"encoding": "zstd", "payload": _checked(frame)})


def _guide(name: str, body: bytes) -> Hostile:
    return Hostile(name, {"encoding": "guide-json", "payload": body})


def _state(name: str, **changes: object) -> bytes:
    """A state's JSON with some fields changed; `...` leaves one out."""
    fields: dict[str, object] = {
        "checkpoint_id": name, "workflow_name": "hostile", "created_at": 1.0, "runtime_inputs": {}, "context": {},
        "completed_blocks": [], "current_wave_index": 0, "execution_waves": [], "block_definitions": {},
        "workflow_stack": [], "parent_checkpoint_id": None, "paused_block_id": None, "pause_prompt": None,
        "pause_metadata": None, "child_checkpoint_id": None, "schema_version": 1, "run_id": None, "status": "running",
        **changes,
    }  # fmt: skip
    return json.dumps({key: value for key, value in fields.items() if value is not ...}).encode()


def _frame(header: bytes, *blocks: tuple[int, int, bytes]) -> bytes:
    """A zstd frame: each block is a kind (0 as it is, 1 one byte again and again), a size and its bytes."""
    packed = [
        (size << 3 | kind << 1 | (number == len(blocks))).to_bytes(3, "little") + data
        for number, (kind, size, data) in enumerate(blocks, start=1)
    ]
    return b"\x28\xb5\x2f\xfd" + header + b"".join(packed)


_WINDOW_8_MB = bytes([0, 13 << 3])


def bombs(*, are_few: bool) -> list[Hostile]:
    """Small payloads that unpack to far more than any memory has, and some that only say so.

    Args:
        are_few: Whether those are left out that take long and differ little.
    """
    whole = (1, _WHOLE_BLOCK, b" ")
    said = 2**62
    within = MAX_STATE_BYTES // _WHOLE_BLOCK
    text = b'{"checkpoint_id": "'
    slow = [
        _zstd(
            "a string without an end",
            _frame(_WINDOW_8_MB, (0, len(text), text), *[(1, _WHOLE_BLOCK, b"a")] * 80_000),
        ),
        _zstd("spaces, as many as are let in", _frame(_WINDOW_8_MB, *[whole] * within)),
        _zstd("a byte more than that", _frame(_WINDOW_8_MB, *[whole] * within, (1, 1, b" "))),
    ]
    return [
        *([] if are_few else slow),
        _zstd("a megabyte of zstd that is 34 GB of spaces", _frame(_WINDOW_8_MB, *[whole] * 262_144)),
        _zstd("a window of 2 GB", _frame(bytes([0, 21 << 3]), *[whole] * 20_000)),
        _zstd("a window of 3.75 TB", _frame(bytes([0, 31 << 3 | 7]), *[whole] * 20_000)),
        _zstd("a frame that says it has 4 EB", _frame(bytes([0b1110_0000]) + said.to_bytes(8, "little"), whole)),
        _zstd("a frame that has more than it says", _frame(bytes([0b0010_0000, 1]), (0, 2, b"{}"))),
        _zstd("thousands of skippable frames", b"\x50\x2a\x4d\x18\x04\0\0\0evil" * 80_000),
        _zstd("a skippable frame of 4 GB that is not there", b"\x50\x2a\x4d\x18\xff\xff\xff\xff"),
        _zstd("a dictionary that nobody has", _frame(bytes([3, 13 << 3, 1, 2, 3, 4]), (0, 2, b"{}"))),
        _zstd("frames behind one another", zstd.compress(_state("frames behind one another")) * 2),
        _zstd("a frame and something else", zstd.compress(_state("a frame and something else")) + b"something"),
        _zstd("a frame of nothing", zstd.compress(b"")),
        _zstd("half a frame", zstd.compress(_state("half a frame") * 50)[:-9]),
        _zstd("a frame in a frame", zstd.compress(zstd.compress(_state("a frame in a frame")))),
    ]


_DEEP = 100_000

_PAYLOADS = [
    Hostile("an empty payload", {"payload": b""}),
    Hostile("half a checksum", {"payload": b"ab"}),
    Hostile("a checksum alone", {"payload": _checked(b"")}),
    Hostile("a wrong checksum", {"payload": b"\0\0\0\0" + _state("a wrong checksum")}),
    Hostile("a payload that was cut off", {"payload": _checked(_state("a payload that was cut off"))[:-1]}),
    _json("no JSON", b"{"),
    _json("JSON that is no object", b"[1]"),
    _json("JSON that is null", b"null"),
    _json("brackets, 100,000 deep", b"[" * _DEEP + b"]" * _DEEP),
    _json("dicts, 100,000 deep", b'{"a":' * _DEEP + b"1" + b"}" * _DEEP),
    _json("a field that is 100,000 deep", _state("a field that is 100,000 deep", context=0).replace(
        b'"context": 0', b'"context": ' + b'{"a":' * _DEEP + b"1" + b"}" * _DEEP)),
    _json("a lone surrogate", _state("a lone surrogate", context={"a": "\ud800"})),
    _json("bytes that are no UTF-8", _state("bytes that are no UTF-8", pause_prompt="#").replace(b"#", b"\xff")),
    _json("NaN", _state("NaN", context={"a": float("nan")})),
    _json("a number of a million digits", b'{"schema_version": ' + b"9" * 1_000_000 + b"}"),
    _json("a byte order mark", b"\xef\xbb\xbf" + _state("a byte order mark")),
    _json("the state of another checkpoint", _state("an empty payload")),
    _json("an id that is a list", _state("an id that is a list", checkpoint_id=[])),
    _json("a newer schema", _state("a newer schema", schema_version=2)),
    _json("a schema beyond all numbers", _state("a schema beyond all numbers", schema_version=2**64)),
    _json("a schema that is text", _state("a schema that is text", schema_version="1")),
    _json("a field too few", _state("a field too few", context=...)),
    _json("a field too many", _state("a field too many", __class__="os.system")),
    _json("a field of a wrong type", _state("a field of a wrong type", context=[])),
    _json("a time that is text", _state("a time that is text", created_at="now")),
    _json("a status that nobody knows", _state("a status that nobody knows", status="zombie")),
    _json("a status that is a dict", _state("a status that is a dict", status={})),
    _json("a pause that runs", _state("a pause that runs", status="paused")),
    _guide("the guide's JSON, cut off", b'{"context": {'),
    _guide("the guide's JSON, 100,000 deep", b'{"context":' + b'{"a":' * _DEEP + b"1" + b"}" * _DEEP + b"}"),
    _guide("the guide's JSON, brackets", b"[" * _DEEP),
    _guide("the guide's JSON with a huge number", b'{"schema_version": ' + b"9" * 1_000_000 + b"}"),
    _guide("the guide's JSON in no encoding", b'{"context": "\xff\xfe"}'),
    _guide("the guide's JSON in UTF-32", '{"context": {}}'.encode("utf-32")),
    _guide("the guide's JSON without fields", b"{}"),
    _guide("the guide's JSON of nothing", b""),
    Hostile("an unknown encoding", {"encoding": "pickle"}),
    Hostile("an encoding with control characters", {"encoding": "json\n\x1b[31m\x07\u202e"}),
    Hostile("an encoding of 100,000 characters", {"encoding": "x" * 100_000}),
    Hostile("an encoding without a name", {"encoding": ""}),
]  # fmt: skip

_900_DEEP = _state("a field that is 900 deep", context=0).replace(
    b": 0,", b": " + b'{"a":' * 900 + b"1" + b"}" * 900 + b",", 1
)

_COLUMNS = [
    Hostile(
        "a field that is 900 deep", {"encoding": "json", "payload": _checked(_900_DEEP)}, loads=True, can_be_shown=False
    ),
    Hostile("an unknown status", {"status": "zombie"}, loads=True),
    Hostile("a status with control characters", {"status": "\x1b[2J\r\n"}, loads=True),
    Hostile("no status", {"status": ""}, loads=True),
    Hostile("negative sizes", {"full_bytes": -(2**31), "stored_bytes": -5}, loads=True),
    Hostile("the largest sizes", {"full_bytes": 2**31 - 1, "stored_bytes": 2**31 - 1}, loads=True),
    Hostile("a negative wave", {"current_wave_index": -1, "schema_version": -7}, loads=True),
    Hostile("a workflow without a name", {"workflow_name": ""}, loads=True),
    Hostile("a workflow's name with control characters", {"workflow_name": "a\x1b]0;x\x07\n\u202eb"}, loads=True),
    Hostile("a workflow's name of 2,000 characters", {"workflow_name": "w" * 2_000}, loads=True),
    Hostile("a prompt with control characters", {"pause_prompt": "\x1b[31m\n" * 50}, loads=True),
    Hostile("a run without a name", {"run_id": "", "lease_owner": "", "lease_expires_at": 1.0}, loads=True),
    Hostile("a run with quotes", {"run_id": "'; DROP TABLE checkpoints; --"}, loads=True),
    Hostile("from before all times", {"created_at": float("-inf")}),
    Hostile("from after all times", {"created_at": float("inf")}),
    Hostile("a lease without an end", {"lease_owner": "x", "lease_expires_at": float("inf")}, loads=True),
    Hostile("a lease from before all times", {"lease_owner": "x", "lease_expires_at": -1e300}, loads=True),
    Hostile("a lease that never began", {"lease_owner": "x", "lease_expires_at": float("-inf")}, loads=True),
    Hostile("a lease that has no owner", {"lease_owner": None, "lease_expires_at": 1.0}, loads=True),
]

_SERVER_ONLY = ("postgresql",)
_OF_A_SERVER = [
    Hostile("a time that is no number", {"created_at": float("nan")}, databases=_SERVER_ONLY),
    Hostile(
        "a lease that ends at no number",
        {"lease_owner": "x", "lease_expires_at": float("nan")},
        loads=True,
        databases=_SERVER_ONLY,
    ),
]

_FILE_ONLY = ("sqlite",)
_BAD_TEXT = b"a\x80\xff\xed\xa0\x80"


class BadText(bytes):
    """Text of a SQLite file that is no UTF-8."""

    __slots__ = ()


def _file(name: str, *, loads: bool = True, **columns: object) -> Hostile:
    return Hostile(name, columns, loads, _FILE_ONLY)


_OF_A_FILE = [
    _file("a payload that is text", loads=False, payload="{}"),
    _file("a payload that is a number", loads=False, payload=5),
    _file("a payload that is a huge number", loads=False, payload=2**62),
    _file("a payload that is a fraction", loads=False, payload=0.5),
    _file("an encoding that is bytes", loads=False, encoding=b"json"),
    _file("a workflow's name that is bytes", loads=False, workflow_name=b"hostile"),
    _file("a workflow's name that is more bytes", loads=False, workflow_name=b"\xff\xff"),
    _file("a workflow's name that is no UTF-8", workflow_name=BadText(_BAD_TEXT)),
    _file("a workflow's name with NUL", workflow_name="a\0b"),
    _file("a status that is bytes", status=b"running"),
    _file("a status that is no UTF-8", status=BadText(_BAD_TEXT)),
    _file("a prompt that is no UTF-8", pause_prompt=BadText(_BAD_TEXT)),
    _file("a run that is no UTF-8", run_id=BadText(_BAD_TEXT)),
    _file("a run that is bytes", run_id=b"\0"),
    _file("a time that is a word", loads=False, created_at="now"),
    _file("a time that is bytes", loads=False, created_at=b"\xff"),
    _file("a lease that ends at a word", lease_owner="x", lease_expires_at="never"),
    _file("a lease that ends at bytes", lease_owner=b"x", lease_expires_at=b"\0"),
    _file("a pause that is 7", is_paused=7),
    _file("a pause that is a word", is_paused="perhaps"),
    _file("a pause that is bytes", is_paused=b""),
    _file("history that is a word", superseded="x"),
    _file("a pin that is a fraction", pinned=2.5),
    _file("a pin that is a word", pinned="x"),
    _file("a wave that is a word", current_wave_index="x"),
    _file("a schema that is bytes", schema_version=b"\xff"),
    _file("sizes that are words", full_bytes="many", stored_bytes="many"),
    _file("sizes that are bytes", full_bytes=b"\xff", stored_bytes=b"\xff"),
    _file("sizes beyond all numbers", full_bytes=2**63 - 1, stored_bytes=2**63 - 1),
    _file("sizes beyond all numbers again", full_bytes=2**63 - 1, stored_bytes=2**63 - 1),
    _file("sizes below all numbers", full_bytes=-(2**63), stored_bytes=-(2**63)),
    _file("sizes that are infinite", full_bytes=float("inf"), stored_bytes=float("-inf")),
    _file("an id with NUL", loads=False, checkpoint_id="a\0b"),
    _file("an id with a single quote", loads=False, checkpoint_id="'"),
    _file("an id of 100,000 characters", loads=False, checkpoint_id="i" * 100_000),
    _file("an empty id", loads=False, checkpoint_id=""),
    _file("an id that is no UTF-8", loads=False, checkpoint_id=BadText(_BAD_TEXT)),
    _file("an id that is half a character", loads=False, checkpoint_id=BadText(b"\xc3")),
    _file("an id that is bytes", loads=False, checkpoint_id=b"bytes"),
    _file("an id that is other bytes", loads=False, checkpoint_id=b"\xff\0"),
]

HOSTILE = (*_PAYLOADS, *_COLUMNS, *_OF_A_SERVER, *_OF_A_FILE)
"""All of them but the bombs."""
