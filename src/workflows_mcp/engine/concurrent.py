"""Things done at the same time, of which the first that fails ends the others."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

__all__ = ["at_once"]


async def at_once(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of it at the same time; when this ends, nothing of it runs any more.

    Raises:
        BaseException: The first error of a part, as it is: what awaits the error of one part need not know that
            there were others.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    if not tasks:
        return
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    except BaseException:
        await _end(tasks)
        raise
    await _end(tasks)
    for task in tasks:
        if task.cancelled() and task in done:
            raise RuntimeError("a part of what is done at once was cancelled from within; this is a bug")
        if task in done:
            task.result()


async def _end(tasks: Sequence["asyncio.Future[None]"]) -> None:
    """Cancel what is not done, and wait until it is, however often the caller is cancelled meanwhile."""
    cancellation: asyncio.CancelledError | None = None
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    while left:
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError as error:
            cancellation = error
        left = [task for task in left if not task.done()]
    for task in tasks:
        if not task.cancelled():
            task.exception()  # is retrieved, so that nobody warns of it
    if cancellation is not None:
        raise cancellation
