"""A file system with little room, seen by this process and by those that it starts, and gone with them."""

import ctypes
import os
import subprocess
from pathlib import Path

__all__ = ["SmallDisk", "mount"]

_NEW_MOUNTS = 0x00020000
"""Linux' CLONE_NEWNS: mounts of its own."""


class SmallDisk:
    """A file system in memory.

    Args:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    @property
    def free_bytes(self) -> int:
        """What can be written yet."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, left: int) -> None:
        """Take away the room, but for so many bytes."""
        with self._filler.open("ab") as file:
            file.write(bytes(max(self.free_bytes - left, 0)))

    def make_room(self) -> None:
        """Give back what was taken away."""
        self._filler.unlink()


def mount(folder: Path, size: str) -> SmallDisk:
    """Mount a file system of a size such as `2m` on an empty folder.

    Call it from the main thread before there are others: those would not see it.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "mounts of its own are refused to this process")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    return SmallDisk(folder)
