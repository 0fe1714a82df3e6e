"""A state's plain JSON and the payload that is stored of it.

`encoding` says what a payload is:

=============  ==============================================================================================
``json``       checksum (4 bytes), then the plain JSON
``zstd``       checksum (4 bytes), then a zstd frame of the plain JSON
``guide-json`` JSON text of a database that was adopted, as it was found: without a checksum, and without the
               fields that the table's columns hold
=============  ==============================================================================================

The checksum is the CRC-32 of the bytes after it, big-endian. It is of what is stored, so damage is found before
anything is unpacked or parsed.
"""

import contextlib
import json
import sys
import threading
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.engine.state_json import MAX_STATE_BYTES, build_state, damaged, decode_state

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

__all__ = [
    "GUIDE_JSON",
    "JSON",
    "ZSTD",
    "Body",
    "Payload",
    "body_of",
    "decode_body",
    "decode_payload",
    "pack",
    "pack_body",
    "payload_of",
    "unpack",
]

JSON = "json"
ZSTD = "zstd"
GUIDE_JSON = "guide-json"

_LEVEL = 1
"""zstd's fastest that still finds most: level 3 takes a fifth longer and saves a twentieth (`benchmarks/probe.py`)."""

_CHECKSUM_BYTES = 4

_LONGEST_SHOWN = 40
"""Of an unknown encoding's name, so many characters are shown."""

_STEP_BYTES = 16 * 2**20
"""How much is unpacked at a time: what turns out to be too large has by then been in memory once, and not twice."""

_WORTH_COMPRESSING = 2048
"""Plain JSON below this many bytes is stored as it is: half a kilobyte saved is not worth the time of a load."""


class _OfThread(threading.local):
    """A compressor for each thread, made once: its working memory costs more than a small frame does."""

    def __init__(self) -> None:
        self.compressor = zstd.ZstdCompressor(level=_LEVEL)


_of_thread = _OfThread()


class Payload(NamedTuple):
    """A state as it is stored.

    Attributes:
        encoding: What `data` is.
        data: The bytes to store.
        full_bytes: Size of the plain JSON.
    """

    encoding: str
    data: bytes
    full_bytes: int


Body = tuple[str, bytes]
"""An encoding, and what a payload of it holds: neither checksum nor seal is on it."""


def pack(plain: bytes) -> Payload:
    """The payload of a state's plain JSON. May be called in any thread; for large ones, other threads run meanwhile."""
    encoding, data = pack_body(plain)
    return Payload(encoding, zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big") + data, len(plain))


def pack_body(plain: bytes) -> Body:
    """The same without a checksum."""
    if len(plain) >= _WORTH_COMPRESSING:
        frame = _of_thread.compressor.compress(plain, mode=zstd.ZstdCompressor.FLUSH_FRAME)
        if len(frame) < len(plain):
            return ZSTD, frame
    return JSON, plain


def decode_payload(
    encoding: str, data: bytes, *, checkpoint_id: str, workflow_name: str, created_at: float
) -> CheckpointState:
    """The state of a stored row.

    Args:
        encoding: What `data` is.
        data: The payload.
        checkpoint_id: The row's id.
        workflow_name: The row's workflow, for encodings that leave it to the table.
        created_at: The row's time, for encodings that leave it to the table.

    Raises:
        CheckpointDecodeError: The payload is damaged, or newer than this version.
    """
    columns = None
    if encoding == GUIDE_JSON:
        columns = {"checkpoint_id": checkpoint_id, "workflow_name": workflow_name, "created_at": created_at}
    return decode_body(body_of(encoding, data, checkpoint_id), checkpoint_id, columns)


def body_of(encoding: str, data: bytes, checkpoint_id: str) -> Body:
    """What is in a payload besides its checksum, which is compared.

    Raises:
        CheckpointDecodeError: They do not match.
    """
    # SQLite holds any type in any column.
    if type(data) is not bytes:
        raise damaged(checkpoint_id, f"it is not bytes, but {type(data).__name__}")
    if encoding == GUIDE_JSON:
        return encoding, data
    checksum, body = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
    if zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "big") != checksum:
        raise damaged(checkpoint_id, "its checksum does not match")
    return encoding, body


def payload_of(body: Body) -> bytes:
    """The payload with such a body."""
    encoding, data = body
    return data if encoding == GUIDE_JSON else zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big") + data


def decode_body(body: Body, checkpoint_id: str, columns: Mapping[str, object] | None = None) -> CheckpointState:
    """The state in a payload's body.

    Args:
        body: What the payload holds.
        checkpoint_id: The row's id.
        columns: Fields that the table's columns hold, if the body may leave them out.

    Raises:
        CheckpointDecodeError: It is damaged, or newer than this version.
    """
    encoding, data = body
    if encoding == GUIDE_JSON:
        return _decode_guide_json(data, checkpoint_id, columns or {})
    return decode_state(unpack(body, checkpoint_id), checkpoint_id)


def unpack(body: Body, checkpoint_id: str) -> bytes | bytearray:
    """The plain JSON that `pack_body` made a body of.

    Raises:
        CheckpointDecodeError: It is damaged, or of another encoding.
    """
    encoding, data = body
    if encoding == ZSTD:
        return _unpack(data, checkpoint_id)
    if encoding == JSON:
        return data
    raise damaged(
        checkpoint_id, f"its encoding {encoding[:_LONGEST_SHOWN]!r} is unknown to this version of workflows-mcp"
    )


def _unpack(frame: bytes, checkpoint_id: str) -> bytes | bytearray:
    """The content of a frame; at most `MAX_STATE_BYTES`, so that a small frame cannot fill the memory."""
    decompressor = zstd.ZstdDecompressor()
    plain: bytes | bytearray = b""
    rest = frame
    is_over = False
    with contextlib.suppress(zstd.ZstdError):
        while not is_over and len(plain) <= MAX_STATE_BYTES:
            part = decompressor.decompress(rest, max_length=min(_STEP_BYTES, MAX_STATE_BYTES + 1 - len(plain)))
            is_over = decompressor.eof
            if plain:
                plain += part
            else:
                plain = part if is_over else bytearray(part)  # which grows without being copied
            rest = b""
            if not is_over and not part and decompressor.needs_input:
                raise damaged(checkpoint_id, "it is cut off")
        if len(plain) > MAX_STATE_BYTES:
            raise damaged(checkpoint_id, f"it unpacks to more than {MAX_STATE_BYTES:,} bytes")
        if decompressor.unused_data:
            raise damaged(checkpoint_id, "something follows its zstd frame")
        return plain
    raise damaged(checkpoint_id, "it is no zstd frame")


def _decode_guide_json(data: bytes, checkpoint_id: str, columns: Mapping[str, object]) -> CheckpointState:
    # The stdlib wrote it and reads it: NaN, huge integers and lone surrogates included.
    fields: object = None
    with contextlib.suppress(ValueError, RecursionError):
        fields = json.loads(data)
    # Raised outside any handler: the parser's error holds the payload, and must not be this one's context.
    if not isinstance(fields, dict):
        raise damaged(checkpoint_id, "it is not JSON, or no JSON object")
    return build_state({**fields, **columns}, checkpoint_id)
