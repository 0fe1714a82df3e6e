"""A file that is whole under its name, or not there."""

import contextlib
import os
import secrets
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from workflows_mcp.errors import CheckpointFileError

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

__all__ = ["OutputFile"]

_OPTIONS: Mapping[int, int] = {
    zstd.CompressionParameter.compression_level: 3,  # zstd's default, with 4 MB of memory
    zstd.CompressionParameter.checksum_flag: 1,
}


class OutputFile:
    """Bytes that are written beside a path, readable by nobody else, and get its name when all are on the disk.

    Its methods block, and are called one after the other.

    Args:
        target: The path, with the suffix `.zst` for a compressed file; or a binary stream, which is only written to.
        overwrite: Whether a file that is there is replaced.

    Raises:
        CheckpointFileError: There is a file, or none can be made.
    """

    def __init__(self, target: Path | BinaryIO, *, overwrite: bool = False) -> None:
        self._overwrite = overwrite
        self._temporary: Path | None = None
        if isinstance(target, Path):
            self._path: Path | None = target
            self._refuse_existing(target)
            self._file = self._create(target)
        else:
            self._path = None
            self._file = target
        self._stream = self._file
        if self._path is not None and self._path.suffix == ".zst":
            self._stream = cast("BinaryIO", zstd.ZstdFile(self._file, "wb", options=_OPTIONS))

    def write(self, data: bytes) -> None:
        """Write some more.

        Raises:
            CheckpointFileError: It cannot be written, say since the disk is full.
        """
        try:
            self._stream.write(data)
        except BrokenPipeError:
            raise  # whoever reads has had enough
        except OSError as error:
            raise self._failure(error) from None

    def finish(self) -> None:
        """Give the file its name, with all of it on the disk.

        Raises:
            CheckpointFileError: It cannot be written, or the path has been taken meanwhile.
        """
        try:
            if self._stream is not self._file:
                self._stream.close()
            self._file.flush()
            if self._path is not None and self._temporary is not None:
                os.fsync(self._file.fileno())
                self._file.close()
                self._publish(self._temporary, self._path)
                self._temporary = None
                _sync_folder(self._path.parent)
        except BrokenPipeError:
            raise
        except FileExistsError:
            raise self._is_there() from None
        except OSError as error:
            raise self._failure(error) from None

    def close(self) -> None:
        """Let go of the file; what was not finished is removed."""
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            self._file.close()
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                self._temporary.unlink()

    def _refuse_existing(self, path: Path) -> None:
        try:
            mode = path.stat().st_mode
        except OSError:
            return  # it is not there, or what is wrong shows when the file is made
        if not stat.S_ISREG(mode):
            raise CheckpointFileError(f"{str(path)!r} is no regular file; name a file, or - for stdout")
        if not self._overwrite:
            raise self._is_there()

    def _create(self, path: Path) -> BinaryIO:
        # A link is followed: what it leads to is replaced, and not the link.
        self._path = path = path.resolve() if path.is_symlink() else path
        temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")
        try:
            number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._failure(error) from None
        self._temporary = temporary
        return os.fdopen(number, "wb")

    def _publish(self, temporary: Path, path: Path) -> None:
        if not self._overwrite:
            # Unlike a renaming, this fails where somebody has made a file of that name meanwhile.
            with contextlib.suppress(PermissionError, NotImplementedError):  # a file system that knows no links
                os.link(temporary, path)
                temporary.unlink()
                return
            if path.exists():
                raise FileExistsError
        temporary.replace(path)

    def _is_there(self) -> CheckpointFileError:
        return CheckpointFileError(
            f"there is a file {str(self._path)!r} already; name another one, or have it replaced (--overwrite)"
        )

    def _failure(self, error: OSError) -> CheckpointFileError:
        if self._path is None:
            return CheckpointFileError(f"the output cannot be written: {error.strerror}")
        return CheckpointFileError(f"{str(self._path)!r} cannot be written: {error.strerror}; no part of it is left")


def _sync_folder(folder: Path) -> None:
    """Have the name outlive a power cut, too."""
    with contextlib.suppress(OSError):  # some file systems do not know how
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
