"""What a forked process inherits and must not touch, not even to close it."""

import ctypes
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence

__all__ = ["Inherited", "keep_from_children"]


class Inherited(ABC):
    """What belongs to the process that made it. A child has a copy, which shares files, sockets and locks."""

    @abstractmethod
    def was_inherited(self) -> Sequence[object]:
        """Hear, in a child that was just forked, that this is not its own.

        Returns:
            What must not even be closed there, as it would be at the end of its last reference.
        """


_LIVE: weakref.WeakSet[Inherited] = weakref.WeakSet()


def keep_from_children(inherited: Inherited) -> None:
    """Have something told when this process is forked, in the child."""
    _LIVE.add(inherited)


def _tell() -> None:
    for one in list(_LIVE):
        for kept in (one, *one.was_inherited()):
            # A reference that nothing ends, the interpreter's end included: a child that closes a connection of its
            # parent's says good-bye in its parent's name, or takes the parent's event loop off the connection.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell)
