"""Takes turns among the processes that run tests, so that a test can have the machine for itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_SH, LOCK_UN, flock  # the functions themselves: tests take them away from the module
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
            flock(gate, LOCK_EX)  # whoever waits here holds up those who come later, which are many
            flock(inside, LOCK_EX if is_alone else LOCK_SH)
            flock(gate, LOCK_UN)
        try:
            yield
        finally:
            flock(inside, LOCK_UN)  # not left to its closing: what was forked meanwhile has it open, too
