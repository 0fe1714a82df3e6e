"""A file that is whole under its name, or not there."""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from workflows_mcp.errors import CheckpointFileError
from workflows_mcp.persistence.dialects.database_files import is_of_database
from workflows_mcp.persistence.part_file import PartFile

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

__all__ = ["OutputFile"]

_KNOWS_NO_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)
"""What a file system without hard links answers who makes one: some of a network's, and FAT."""

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
        CheckpointFileError: There is a file, or none can be made; or it is a database's.
    """

    def __init__(self, target: Path | BinaryIO, *, overwrite: bool = False) -> None:
        self._overwrite = overwrite
        self._part: PartFile | None = None
        if isinstance(target, Path):
            # A link is followed: what it leads to is replaced, and not the link.
            self._path: Path | None = target.resolve() if target.is_symlink() else target
            self._refuse_existing(self._path)
            self._file = self._create(self._path)
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
            if self._path is not None and self._part is not None:
                os.fsync(self._file.fileno())
                self._publish(self._part, self._path)
                self._part = None
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
        # While it is locked: afterwards it may be somebody else's.
        if self._part is not None:
            self._part.remove()
        with contextlib.suppress(OSError):
            self._file.close()

    def _refuse_existing(self, path: Path) -> None:
        if is_of_database(path):
            raise CheckpointFileError(
                f"{str(path)!r} is a database, or has the name of a part of one, and is never replaced; name another "
                "file"
            )
        try:
            mode = path.stat().st_mode
        except OSError:
            return  # it is not there, or what is wrong shows when the file is made
        if not stat.S_ISREG(mode):
            raise CheckpointFileError(f"{str(path)!r} is no regular file; name a file, or - for stdout")
        if not self._overwrite:
            raise self._is_there()

    def _create(self, path: Path) -> BinaryIO:
        try:
            self._part = PartFile(path)
        except OSError as error:
            raise self._failure(error) from None
        return os.fdopen(self._part.descriptor, "wb")

    def _publish(self, part: PartFile, path: Path) -> None:
        """Give the file its name, while it is locked: who waits for the lock must not take it for a leftover."""
        if not self._overwrite:
            # Unlike a renaming, this fails where somebody has made a file of that name meanwhile.
            try:
                os.link(part.path, path)
            except FileExistsError:
                raise
            except OSError as error:
                if error.errno not in _KNOWS_NO_LINKS:
                    raise
            else:
                part.remove()
                return
            if path.exists():
                raise FileExistsError
        part.path.replace(path)

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
