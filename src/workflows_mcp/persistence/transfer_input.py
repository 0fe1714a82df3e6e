"""A file that is read twice: to be checked as a whole, and then to be imported."""

import contextlib
import io
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

from workflows_mcp.errors import CheckpointFileError
from workflows_mcp.persistence.transfer_file import MAX_LINE_BYTES

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

__all__ = ["InputFile"]

_ZSTD = b"\x28\xb5\x2f\xfd"
"""How a zstd frame begins."""

_GZIP = b"\x1f\x8b"
"""How a gzip file begins, which people make of an export themselves."""

_STEP_BYTES = 2**20

_Buffered: TypeAlias = "io.BufferedReader[Any]"


class InputFile:
    """A file, or a stream that can be read once: what is read of that is kept in a file that nobody else can read.

    Its methods block, and are called one after the other. A compressed file is known by its first bytes.

    Args:
        source: A path, or a binary stream, which stays its owner's to close.

    Raises:
        CheckpointFileError: The file cannot be read, is empty, or is compressed in another way.
    """

    def __init__(self, source: Path | BinaryIO) -> None:
        self._name = repr(str(source)) if isinstance(source, Path) else "the input"
        self._kept: BinaryIO | None = None
        self._opened = self._open(source) if isinstance(source, Path) else None
        self._raw = self._opened or cast("BinaryIO", source)
        try:
            self._start = self._begin()
            self._stream = self._decompressed(self._raw, self._kept)
            self._refuse_nothing()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> int:
        """Where to begin; what cannot be read twice is kept from now on."""
        try:
            can_be_read_twice = stat.S_ISREG(os.fstat(self._raw.fileno()).st_mode)
        except (OSError, ValueError):  # one in memory
            can_be_read_twice = self._raw.seekable()
        if can_be_read_twice:
            return self._raw.tell()
        try:
            self._kept = cast("BinaryIO", tempfile.TemporaryFile(prefix="workflows-mcp-"))  # noqa: SIM115 - closed by close
        except OSError as error:
            raise self._failure(error) from None
        return 0

    def _refuse_nothing(self) -> None:
        if not self._peek():
            raise CheckpointFileError(
                f"{self._name} is empty, as not even an export of no checkpoints is. Copy it again, or export again"
            )

    def rewind(self) -> None:
        """Begin anew, once the whole has been read."""
        again = self._raw if self._kept is None else self._kept
        again.seek(self._start)
        self._stream = self._decompressed(again)

    def close(self) -> None:
        """Let go of the file."""
        for one in (self._opened, self._kept):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.close()

    def is_array(self) -> bool:
        """Whether what comes next is a JSON array. Nothing of it is read by this."""
        while True:
            head = self._peek()
            rest = head.lstrip(b" \t\r\n\xef\xbb\xbf")
            if rest or not head:
                return rest.startswith(b"[")
            self._read(len(head))

    def read_all(self, most: int) -> bytes:
        """Read what there is, and one byte more than `most` at the most."""
        return self._read(most + 1)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines and their numbers, from 1, with their line breaks.

        Raises:
            CheckpointFileError: The file cannot be read, or has a line that is longer than any checkpoint's.
        """
        number = 0
        while line := self._guarded(lambda: self._stream.readline(MAX_LINE_BYTES + 1)):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise CheckpointFileError(f"line {number} of {self._name} is longer than any checkpoint's")
            yield number, line

    def _open(self, path: Path) -> BinaryIO:
        try:
            return path.open("rb")
        except OSError as error:
            raise self._failure(error) from None

    def _decompressed(self, source: BinaryIO, kept: BinaryIO | None = None) -> _Buffered:
        buffered = io.BufferedReader(_Raw(source, kept), _STEP_BYTES)
        head = self._guarded(lambda: buffered.peek(len(_ZSTD)))
        if head.startswith(_GZIP):
            raise CheckpointFileError(f"{self._name} is gzip; unpack it first: gzip -dc < FILE > UNPACKED")
        if not head.startswith(_ZSTD):
            return buffered
        return io.BufferedReader(cast("io.RawIOBase", zstd.ZstdFile(buffered)), _STEP_BYTES)

    def _peek(self) -> bytes:
        return self._guarded(lambda: self._stream.peek(1))

    def _read(self, size: int) -> bytes:
        return self._guarded(lambda: self._stream.read(size))

    def _guarded(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except OSError as error:
            problem = self._failure(error)
        except (EOFError, zstd.ZstdError):
            problem = CheckpointFileError(
                f"{self._name} is no whole zstd file: it was cut off or damaged. Copy it again, or export again"
            )
        raise problem

    def _failure(self, error: OSError) -> CheckpointFileError:
        return CheckpointFileError(f"{self._name} cannot be read: {error.strerror}")


class _Raw(io.RawIOBase):
    """What is read of a file or stream, which stays open when this is closed.

    Args:
        source: The file or stream.
        kept: Where all that is read is kept; None: it is not.
    """

    def __init__(self, source: BinaryIO, kept: BinaryIO | None) -> None:
        self._source = source
        self._to = kept

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - as io has it
        """Read some, as much as there is at the moment."""
        reader = getattr(self._source, "read1", self._source.read)
        data: bytes = reader(len(buffer))
        buffer[: len(data)] = data
        if self._to is not None:
            self._keep(self._to, data)
        return len(data)

    def _keep(self, kept: BinaryIO, data: bytes) -> None:
        try:
            kept.write(data)
        except OSError as error:
            problem = error.strerror
        else:
            return
        raise CheckpointFileError(
            f"what comes through a pipe is kept in {tempfile.gettempdir()!r} until it is imported, and cannot be: "
            f"{problem}. Set TMPDIR to another folder, or import from a file"
        )
