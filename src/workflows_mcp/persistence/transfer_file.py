"""The format of a file of exported checkpoints: JSON Lines, in UTF-8.

The first line is the header, then comes a line for each checkpoint, the newest first, and the closing line counts them
and has their digest, so that a file that was cut off or changed is noticed. One checkpoint has one line: the same
bytes, from whichever store it was exported. So two stores with the same checkpoints have the same digest.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import orjson

from workflows_mcp.engine.checkpoint import STATE_SCHEMA_VERSION
from workflows_mcp.engine.filters import Position
from workflows_mcp.engine.state_json import MAX_STATE_BYTES, build_state
from workflows_mcp.engine.stored import StoredCheckpoint
from workflows_mcp.errors import CheckpointFileError, CheckpointStoreError

__all__ = ["MAX_LINE_BYTES", "Closing", "Digest", "Header", "line_of", "read_checkpoints", "read_header"]

_FORMAT = "workflows-mcp checkpoints"
_VERSION = 1

_BESIDES_STATE = 4096
MAX_LINE_BYTES = MAX_STATE_BYTES + _BESIDES_STATE
"""No checkpoint has a longer line."""

_MAX_HEADER_BYTES = 64 * 2**10

_PLACE = ("pinned", "superseded", "lease_ended_at")

_BEGINNING = b'{"state":{"checkpoint_id":"'
_END = re.compile(rb'},"pinned":(true|false),"superseded":(true|false),"lease_ended_at":(null|[0-9.e+-]+)}\n')
_LONGEST_END = 128
"""A line that does not begin and end as a checkpoint's is not parsed: JSON may take many times its size in memory."""


class Digest:
    """The digest of checkpoints' lines, and how many there were."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0

    def add(self, line: bytes) -> None:
        """Go on with the next line, with its line break."""
        self._hash.update(line)
        self.count += 1

    def __str__(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


@dataclass(frozen=True)
class Header:
    """The first line.

    Attributes:
        source: Names the store in words, without a password.
        exported_at: When the export began, as an ISO date and time.
        filters: What had to be true of the checkpoints, by the filters' names; empty: all were exported.
        count: How many checkpoints there were when it began; None: nobody had counted them.
    """

    source: str
    exported_at: str
    filters: Mapping[str, Any] = field(default_factory=dict)
    count: int | None = None

    @property
    def line(self) -> bytes:
        """The line, with its line break."""
        return _line(
            {
                "format": _FORMAT,
                "version": _VERSION,
                "product": f"workflows-mcp {version('workflows-mcp')}",
                "source": self.source,
                "exported_at": self.exported_at,
                "filters": dict(self.filters),
                "count": self.count,
            }
        )


@dataclass(frozen=True)
class Closing:
    """The last line.

    Attributes:
        count: How many checkpoints there are in the file.
        damaged: How many were left out, since they could not be read.
        digest: The digest of their lines.
    """

    count: int
    damaged: int
    digest: str

    @property
    def line(self) -> bytes:
        """The line, with its line break."""
        return _line({"count": self.count, "damaged": self.damaged, "digest": self.digest})


def line_of(stored: StoredCheckpoint) -> bytes:
    """A checkpoint's line, with its line break."""
    place = orjson.dumps({name: getattr(stored, name) for name in _PLACE})
    return b"".join((b'{"state":', stored.plain, b",", place[1:], b"\n"))


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        "utf-8", "backslashreplace"
    ) + (b"\n")


def read_header(lines: Iterator[tuple[int, bytes]]) -> Header:
    """Read the first line.

    Args:
        lines: The numbered lines of a file; a line break is missing only where the file ends.

    Raises:
        CheckpointFileError: It is no header, or of a newer version.
    """
    _, line = next(lines, (1, b""))
    fields = _object(line) if len(line) <= _MAX_HEADER_BYTES else None
    if fields is None or fields.get("format") != _FORMAT or type(fields.get("version")) is not int:
        raise CheckpointFileError(
            "this is no file of exported checkpoints: line 1 is not the header of one. What can be imported is what "
            "`workflows-mcp checkpoints export` has written, or a JSON array of states"
        )
    if fields["version"] != _VERSION:
        raise CheckpointFileError(
            f"the file has version {fields['version']} of its format, and this workflows-mcp reads version {_VERSION}: "
            "upgrade workflows-mcp"
        )
    count = fields.get("count")
    source, exported_at = (str(fields.get(name)) for name in ("source", "exported_at"))
    return Header(source, exported_at, count=count if type(count) is int else None)


def read_checkpoints(lines: Iterator[tuple[int, bytes]]) -> Iterator[StoredCheckpoint | Closing]:
    """Read the lines behind the header; the closing line comes last, when all before it turned out to be whole.

    Raises:
        CheckpointFileError: A line is not what it should be, or the file was cut off or changed; the message says which
            line it is.
    """
    digest, last = Digest(), None
    number = 1
    for number, line in lines:
        if not line.endswith(b"\n"):
            break
        if not line.startswith(b'{"state":'):
            closing = _closing(line, number, digest)
            if next(lines, None) is not None:
                raise CheckpointFileError(f"line {number + 1}: something follows the closing line of the export")
            yield closing
            return
        stored = _checkpoint(line, number)
        place: Position = (stored.state.created_at, stored.checkpoint_id)
        if last is not None and place >= last:
            raise CheckpointFileError(f"line {number}: a checkpoint is out of order, or there twice; export it again")
        last = place
        digest.add(line)
        yield stored
    raise CheckpointFileError(
        f"the file ends at line {number} without the closing line of an export: it was cut off. Copy it again, or "
        "export again"
    )


def _closing(line: bytes, number: int, digest: Digest) -> Closing:
    fields = (_object(line) if len(line) <= _MAX_HEADER_BYTES else None) or {}
    count, damaged, found = (fields.get(name) for name in ("count", "damaged", "digest"))
    if type(count) is not int or type(damaged) is not int or not isinstance(found, str):
        raise CheckpointFileError(f"line {number} is neither a checkpoint nor the closing line of an export")
    if count != digest.count:
        raise CheckpointFileError(
            f"line {number} closes an export of {count:,} checkpoints, and {digest.count:,} are there: lines were "
            "removed or added. Copy the file again, or export again"
        )
    if found != str(digest):
        raise CheckpointFileError(
            f"the digest in line {number} is not that of the lines before it: the file was changed or damaged since it "
            "was exported. Copy it again, or export again"
        )
    return Closing(count, damaged, found)


def _checkpoint(line: bytes, number: int) -> StoredCheckpoint:
    """The checkpoint of a line, which must be, byte for byte, what an export writes of it.

    So nothing that a parser lets pass (a key twice, an integer too large for one) is stored as something else.
    """
    is_framed = line.startswith(_BEGINNING) and _END.search(line[-_LONGEST_END:]) is not None
    fields = _object(line) if is_framed else None
    state = None if fields is None else fields.get("state")
    if fields is None or not isinstance(state, dict) or fields.keys() != {"state", *_PLACE}:
        raise CheckpointFileError(f"line {number} is no checkpoint's: it was changed, or is of another program")
    schema_version = state.get("schema_version")
    if type(schema_version) is int and schema_version > STATE_SCHEMA_VERSION:
        raise CheckpointFileError(f"line {number} is of a newer version of workflows-mcp: upgrade workflows-mcp")
    try:
        stored = StoredCheckpoint(build_state(state, "?"), *(fields[name] for name in _PLACE))
        stored.require_fit()
    except (CheckpointStoreError, ValueError):
        stored = None
    # Raised outside any handler: an error there may know what is in the file.
    if stored is None or line_of(stored) != line:
        raise CheckpointFileError(f"line {number} holds no checkpoint as an export writes it: the file was changed")
    return stored


def _object(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; None: it is none."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
