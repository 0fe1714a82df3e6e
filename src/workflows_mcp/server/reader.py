"""A thread that reads what clients send, one text after the other: many large ones keep no other call waiting."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["Reader"]

ResultT = TypeVar("ResultT")


class Reader:
    """Does one thing at a time, in a thread that no process waits for at its end.

    The threads that asyncio has are for all calls, and few; at its end it waits for each of them.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def read(self, function: Callable[[], ResultT]) -> ResultT:
        """What the function returns, or raises; when nobody waits any more before it has begun, it is not called."""
        if self._thread is None:
            self._thread = threading.Thread(target=_serve, args=(self._work,), name="reader of texts", daemon=True)
            self._thread.start()
        future: Future[ResultT] = Future()
        self._work.put((future, function))
        return await asyncio.wrap_future(future)


def _serve(work: "SimpleQueue[tuple[Future[Any], Callable[[], Any]]]") -> None:
    while True:
        future, function = work.get()
        if not future.set_running_or_notify_cancel():
            continue
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            future.set_exception(error)
        else:
            future.set_result(result)
        del future, function  # they may be large, and the next text may not come for long
