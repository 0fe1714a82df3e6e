"""A state's plain JSON and the payload that is stored of it.

`encoding` says what a payload is:

=============  ==============================================================================================
``json``       checksum (4 bytes), then the plain JSON
``zstd``       checksum (4 bytes), then a zstd frame of the plain JSON
``zstd-delta`` checksum (4 bytes), then a zstd frame of it that takes from the plain JSON of another state, its base,
               what that has, too; see `deltas.py`
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
from typing import TYPE_CHECKING

from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.engine.state_json import MAX_STATE_BYTES, build_state, damaged

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

__all__ = [
    "GUIDE_JSON",
    "JSON",
    "ZSTD",
    "ZSTD_DELTA",
    "Body",
    "body_of",
    "decode_guide_json",
    "pack_body",
    "pack_delta",
    "payload_of",
    "unpack",
]

JSON = "json"
ZSTD = "zstd"
ZSTD_DELTA = "zstd-delta"
GUIDE_JSON = "guide-json"

_LEVEL = 1
"""zstd's fastest that still finds most: level 3 takes a fifth longer and saves a twentieth (`benchmarks/probe.py`)."""

_DELTA_LEVEL = 3
"""Of a long run's deltas, level 1 leaves a fourteenth more; and either takes less time than compressing afresh."""

_CHECKSUM_BYTES = 4

_DESCRIPTOR, _HAS_CHECKSUM = 4, 0b100
"""Where a zstd frame's descriptor stands, and the flag in it."""

_LONGEST_SHOWN = 40
"""Of an unknown encoding's name, so many characters are shown."""

_STEP_BYTES = 16 * 2**20
"""How much is unpacked at a time: what turns out to be too large has by then been in memory once, and not twice."""

_LEAST_WINDOW, _LARGEST_WINDOW = 10, 27
"""The windows of zstd's frames, as powers of two: the least there is, and the most that is unpacked unasked."""

_LONG_DISTANCE_BYTES = 256 * 2**10
"""From so many bytes on, a state and its base together, zstd looks for what they share in a table of its own."""

_WORTH_COMPRESSING = 2048
"""Plain JSON below this many bytes is stored as it is: half a kilobyte saved is not worth the time of a load."""


_LEAST_BASE_BYTES = 8
"""Of fewer, zstd makes no dictionary, nor does anybody make deltas."""


class _OfThread(threading.local):
    """A compressor for each thread, made once: its working memory costs more than a small frame does."""

    def __init__(self) -> None:
        self.compressor = zstd.ZstdCompressor(level=_LEVEL)


_of_thread = _OfThread()


Body = tuple[str, bytes]
"""An encoding, and what a payload of it holds: neither checksum nor seal is on it."""


def pack_body(plain: bytes) -> Body:
    """What a payload of a state's plain JSON holds. Any thread may call it; for large ones, others run meanwhile."""
    if len(plain) >= _WORTH_COMPRESSING:
        frame = _of_thread.compressor.compress(plain, mode=zstd.ZstdCompressor.FLUSH_FRAME)
        if len(frame) < len(plain):
            return ZSTD, frame
    return JSON, plain


def pack_delta(plain: bytes, base: bytes | bytearray) -> bytes | None:
    """The zstd frame of a state's plain JSON that takes from another one's what that has, too.

    It ends in a checksum of the plain JSON: unpacked by means of another base, it is seen to be wrong.

    Returns:
        None: they are too large together to be unpacked everywhere.
    """
    size = len(plain) + len(base)
    window = max(size.bit_length(), _LEAST_WINDOW)
    if window > _LARGEST_WINDOW:
        return None
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: _DELTA_LEVEL,
        zstd.CompressionParameter.window_log: window,
        zstd.CompressionParameter.checksum_flag: 1,
        # Without, what lies further back than the level's tables reach is not found; for little, it is twice the work.
        zstd.CompressionParameter.enable_long_distance_matching: int(size >= _LONG_DISTANCE_BYTES),
    }
    compressor = zstd.ZstdCompressor(options=options, zstd_dict=zstd.ZstdDict(base, is_raw=True).as_prefix)
    return compressor.compress(plain, mode=zstd.ZstdCompressor.FLUSH_FRAME)


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


def unpack(
    body: Body, checkpoint_id: str, base: bytes | bytearray | None = None, *, is_link: bool = False
) -> bytes | bytearray:
    """The plain JSON that `pack_body` or `pack_delta` made a body of.

    Args:
        body: What the payload holds.
        checkpoint_id: The row's id.
        base: The plain JSON of its base, if it has one.
        is_link: Whether it is only needed for what is a delta of it, whose checksum tells if it is wrong.

    Raises:
        CheckpointDecodeError: It is damaged, of another encoding, or a delta of something else.
    """
    encoding, data = body
    if encoding == ZSTD:
        return _unpack(data, checkpoint_id, zstd.ZstdDecompressor())
    if encoding == JSON:
        return data
    if encoding == ZSTD_DELTA:
        if base is None:
            raise damaged(checkpoint_id, "the checkpoint that it is a delta of is missing")
        if len(base) < _LEAST_BASE_BYTES:
            raise damaged(checkpoint_id, "it is a delta of another state")
        prefix = zstd.ZstdDict(base, is_raw=True).as_prefix
        frame = _without_checksum(data) if is_link else data
        return _unpack(frame, checkpoint_id, zstd.ZstdDecompressor(zstd_dict=prefix))
    raise damaged(
        checkpoint_id, f"its encoding {encoding[:_LONGEST_SHOWN]!r} is unknown to this version of workflows-mcp"
    )


def _without_checksum(frame: bytes) -> bytes:
    """The same frame without the checksum of its content: comparing that is nearly half of the time of a link.

    It is the last four bytes, and a flag in the descriptor behind the magic number tells that it is there (RFC 8878).
    """
    descriptor = frame[_DESCRIPTOR] if len(frame) > _DESCRIPTOR + _CHECKSUM_BYTES else 0
    if not descriptor & _HAS_CHECKSUM:
        return frame
    return b"%b%c%b" % (frame[:_DESCRIPTOR], descriptor ^ _HAS_CHECKSUM, frame[_DESCRIPTOR + 1 : -_CHECKSUM_BYTES])


def _unpack(frame: bytes, checkpoint_id: str, decompressor: zstd.ZstdDecompressor) -> bytes | bytearray:
    """The content of a frame; at most `MAX_STATE_BYTES`, so that a small frame cannot fill the memory."""
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
    raise damaged(checkpoint_id, "it is no zstd frame, or one of another state")


def decode_guide_json(data: bytes, checkpoint_id: str, columns: Mapping[str, object]) -> CheckpointState:
    """The state in JSON of a database that was adopted.

    Args:
        data: The JSON.
        checkpoint_id: The row's id.
        columns: Fields that the table's columns hold, and that the JSON may leave out.

    Raises:
        CheckpointDecodeError: It is damaged.
    """
    # The stdlib wrote it and reads it: NaN, huge integers and lone surrogates included.
    fields: object = None
    with contextlib.suppress(ValueError, RecursionError):
        fields = json.loads(data)
    # Raised outside any handler: the parser's error holds the payload, and must not be this one's context.
    if not isinstance(fields, dict):
        raise damaged(checkpoint_id, "it is not JSON, or no JSON object")
    return build_state({**fields, **columns}, checkpoint_id)
