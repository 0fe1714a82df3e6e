"""Which file system a file lies on, and whether several machines may share it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mount", "mount_of", "mount_under", "read_mounts"]

_NETWORK = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "davfs2", "fhgfs", "gfs", "gfs2", "glusterfs",
    "gpfs", "lustre", "ncp", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "smb", "smb2",
    "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "wekafs",
})  # fmt: skip
"""File systems whose files other machines, or the host of a virtual machine, may have open at the same time."""

_LOCAL_IN_USER_SPACE = frozenset({
    "fuse.bindfs", "fuse.encfs", "fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.mergerfs", "fuse.ntfs-3g", "fuseblk"
})  # fmt: skip

_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """A mounted file system.

    Attributes:
        folder: Where it is mounted.
        kind: Its type, as the kernel calls it.
    """

    folder: str
    kind: str

    @property
    def is_shared(self) -> bool:
        """Whether locks and shared memory cannot be relied on there, since other machines may take part.

        What is unknown in user space counts as shared: sshfs, rclone, s3fs and many others are of this sort.
        """
        return self.kind in _NETWORK or (self.kind.startswith("fuse") and self.kind not in _LOCAL_IN_USER_SPACE)


def read_mounts() -> str:
    """What the kernel tells of the mounts that this process sees; empty where it tells nothing."""
    try:
        return Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return ""


def mount_of(path: Path, mounts: str) -> Mount | None:
    """The mount that a file, or one that is to be created, lies on.

    Args:
        path: An absolute path; links in it are followed.
        mounts: In the form of Linux' `/proc/self/mountinfo`.

    Returns:
        None when the text names none.
    """
    resolved = Path(os.path.realpath(path))  # to which links that lead to one another are no error
    found: Mount | None = None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) < 5 or not kinds[0]:
            continue
        folder = _ESCAPED.sub(lambda code: chr(int(code[1], 8)), fields[4])
        # A later one at the same place lies over the earlier one.
        if resolved.is_relative_to(folder) and (found is None or len(folder) >= len(found.folder)):
            found = Mount(folder, kinds[0])
    return found


def mount_under(path: Path) -> Mount | None:
    """The mount that a file lies on here and now; None where the kernel does not tell."""
    return mount_of(path, read_mounts())
