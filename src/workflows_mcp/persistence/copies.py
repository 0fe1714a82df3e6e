"""Copies of a whole database in one file, whatever made them."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["Copy", "CopyStoppedError", "Copying", "OnCopied"]

OnCopied = Callable[[int, int], None]
"""Hears, in a thread, how many bytes were copied, of how many."""


@dataclass(frozen=True)
class Copy:
    """A whole copy of a database.

    Attributes:
        file: Where it is.
        size: Its size in bytes.
        checkpoints: How many it holds.
        revision: Its schema's revision; None: the guide's table, which is under no revision yet.
        kept: Of a restored one: where the database that it replaced was kept; where only files that belong beside one
            were there, the first of them; None: there was nothing.
        is_certain: Of a restored one: whether it was certain that no process had that one open.
    """

    file: Path
    size: int
    checkpoints: int
    revision: str | None
    kept: Path | None = None
    is_certain: bool = True


class CopyStoppedError(Exception):
    """Nobody wants the copy any more. Not for callers: they were cancelled."""


class _Interruptible(Protocol):
    def interrupt(self) -> None: ...


class Copying:
    """A copy in the making: how far it is, and whether it is still wanted. One thread makes it, another one watches.

    Args:
        on_copied: Hears how far it is; None: nobody does.
    """

    def __init__(self, on_copied: OnCopied | None = None) -> None:
        self._on_copied = on_copied
        self._is_stopped = threading.Event()
        self._connections: list[_Interruptible] = []

    def uses(self, connection: _Interruptible) -> None:
        """From now on, `stop` interrupts this connection, too."""
        self._connections.append(connection)

    def tell(self, done: int, total: int) -> None:
        """So many bytes are copied.

        Raises:
            CopyStoppedError: It is not wanted any more.
        """
        self.require_wanted()
        if self._on_copied is not None:
            self._on_copied(done, total)

    def require_wanted(self) -> None:
        """Go on only when it is still wanted.

        Raises:
            CopyStoppedError: It is not.
        """
        if self._is_stopped.is_set():
            raise CopyStoppedError

    def stop(self) -> None:
        """End it soon. To be repeated until it has ended: a statement that begins just now is not interrupted."""
        self._is_stopped.set()
        for connection in self._connections:
            with suppress(Exception):  # it is closed
                connection.interrupt()
