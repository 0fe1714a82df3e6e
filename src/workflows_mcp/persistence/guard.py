"""Where a store may be used, and how long: in the process and the event loop that opened it, until it is closed."""

import asyncio

from workflows_mcp.errors import StoreConfigurationError

__all__ = ["Guard"]


class Guard:
    """Refuses misuse of a store.

    Attributes:
        is_closed: Whether it was closed.
        is_inherited: Whether this process was forked from the one that opened it.

    Args:
        database: Names the database in messages; holds no password.
    """

    def __init__(self, database: str) -> None:
        self.is_closed = False
        self.is_inherited = False
        self._database = database
        self._loop: asyncio.AbstractEventLoop | None = None

    def refuse_misuse(self) -> None:
        """Raise an error when the store is closed, or used where it was not opened."""
        if self.is_inherited:
            raise StoreConfigurationError(
                f"the store of {self._database} was opened in the process that this one was forked from; open one "
                "in each process"
            )
        if self.is_closed:
            raise self.closed()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise StoreConfigurationError(
                f"the store of {self._database} was used in another event loop; open one in each loop"
            )

    def closed(self) -> StoreConfigurationError:
        """The error for a call after the close."""
        return StoreConfigurationError(f"the store of {self._database} is closed; open a new one")

    def is_elsewhere(self) -> bool:
        """Whether the store was used in another event loop than this one."""
        return self._loop not in {None, asyncio.get_running_loop()}
