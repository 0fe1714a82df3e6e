"""Takes turns among the processes that run tests, so that a test can have the machine for itself."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["turn"]


@contextmanager
def turn(folder: Path, *, is_alone: bool) -> Iterator[None]:
    """Be one of many, or alone once those who are at it have ended; who comes later waits for that one.

    Args:
        folder: Where the files are by which the processes know of each other.
        is_alone: Whether nobody else may be at it meanwhile.
    """
    with (folder / "inside").open("w") as inside:
        with (folder / "gate").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)  # whoever waits here holds up those who come later, which are many
            fcntl.flock(inside, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
            fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(inside, fcntl.LOCK_UN)  # not left to its closing: what was forked meanwhile has it open, too
