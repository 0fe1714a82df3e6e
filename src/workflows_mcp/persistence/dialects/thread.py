"""A thread that calls a driver which blocks, in the order in which it was asked to."""

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["CallThread", "Then"]

T = TypeVar("T")

Then = Callable[[T | None, BaseException | None], None]
"""What is called on the event loop when a call has ended: with its result, or with its error."""

_SECONDS_TO_BEGIN = 0.001
"""How long the event loop waits at the most for a thread to begin; a sleeping one is awake after a tenth of it."""


class CallThread:
    """Does calls one after the other and tells the event loop that made it what came of each.

    Much as in aiosqlite, but any function can be called, so that several statements are one trip; and what follows
    can be a function, which needs no task.

    Args:
        name: The thread's.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[Callable[[], Any], Then[Any]] | None] = SimpleQueue()
        self._is_idle = True
        self._has_stopped = False
        # A daemon: a program that forgot to close its store ends all the same.
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def begin(self, work: Callable[[], T], then: Then[T]) -> None:
        """Have a call made, whoever still waits for it.

        Args:
            work: The call, in the thread.
            then: What follows, on the event loop.

        Raises:
            ValueError: The thread was told to stop.
        """
        if self._has_stopped:
            raise ValueError("the thread was stopped")
        self._calls.put((work, then))

    def call(
        self, work: Callable[[], T], *, at_once: bool = False, can_be_dropped: bool = False
    ) -> "asyncio.Future[T]":
        """Have a call made; the future is of what it returns.

        Args:
            work: The call, in the thread.
            at_once: Let an idle thread begin before the event loop goes on. To begin, it needs Python's lock, which a
                busy event loop keeps until it has nothing left to do: then the two would take turns, where
                they could work side by side.
            can_be_dropped: Whether a call whose future was given up before its turn came need not be made.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        if can_be_dropped:
            work = functools.partial(_unless_given_up, future, work)  # type: ignore[assignment] # None, for nobody
        if at_once and self._is_idle:
            begun = threading.Lock()
            begun.acquire()
            self.begin(functools.partial(_release_first, begun, work), functools.partial(_settle, future))
            begun.acquire(timeout=_SECONDS_TO_BEGIN)
        else:
            self.begin(work, functools.partial(_settle, future))
        return future

    def stop(self) -> None:
        """Have the thread end when it has done what it was asked to."""
        self._has_stopped = True
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            self._is_idle = False
            work, then = call
            result, error = None, None
            try:
                result = work()
            except BaseException as failure:  # noqa: BLE001 - it is the caller's
                error = failure
            self._is_idle = self._calls.empty()
            with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(then, result, error)
            # What was saved or loaded must not stay in memory until the next call.
            del call, work, then, result, error


def _release_first(begun: threading.Lock, work: Callable[[], T]) -> T:
    begun.release()
    return work()


def _unless_given_up(future: "asyncio.Future[T]", work: Callable[[], T]) -> T | None:
    # Asked in the thread: at worst the answer is a moment old, and the call is made for nobody.
    return None if future.done() else work()


def _settle(future: "asyncio.Future[T]", result: T | None, error: BaseException | None) -> None:
    if future.done():
        return  # given up
    if error is None:
        future.set_result(result)  # type: ignore[arg-type] # without an error there is a result
    else:
        future.set_exception(error)
