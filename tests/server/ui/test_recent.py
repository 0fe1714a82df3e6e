"""What takes a while is found out once for all who ask."""

import asyncio
import gc
from types import SimpleNamespace

import pytest

from workflows_mcp.server.ui.recent import Recent


class _Slow:
    """Something that is looked for until it may be found."""

    def __init__(self) -> None:
        self.looks = 0
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def look(self) -> int:
        self.looks += 1
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        return self.looks


async def test_all_who_ask_at_once_share_one_look() -> None:
    """Somebody who has no patience gets nothing, and the others get what is found, later ones too."""
    slow = _Slow()
    recent = Recent(slow.look, fresh_seconds=60)
    asking = [asyncio.create_task(recent.take()) for _ in range(3)]
    assert await recent.take_within(0.01) is None
    asking[0].cancel()
    slow.may_end.set()
    assert [(await one).value for one in asking[1:]] == [1, 1]
    assert (await recent.take()).value == slow.looks == 1


async def test_an_error_is_not_kept() -> None:
    """The next one looks again; what is old is looked for anew, too."""
    slow = _Slow()
    slow.may_end.set()
    slow.error = OSError("away")
    recent = Recent(slow.look, fresh_seconds=0)
    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            await recent.take_within(5)
    slow.error = None
    assert (await recent.take()).value == 3
    async with asyncio.timeout(10):
        while (await recent.take()).value == 3:
            pass


async def test_what_takes_long_holds_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is looked for during a twentieth of the time at the most."""
    now = 0.0
    monkeypatch.setattr("workflows_mcp.server.ui.recent.time", SimpleNamespace(monotonic=lambda: now, time=lambda: now))

    async def look() -> float:
        nonlocal now
        now += 3
        return now

    recent = Recent(look, fresh_seconds=1)
    assert (await recent.take()).value == 3
    for later, value in ((59.9, 3), (0.2, 66.1)):
        now += later
        assert (await recent.take()).value == pytest.approx(value)


async def test_an_error_that_nobody_waits_for_any_more_is_no_news() -> None:
    """Whoever waited has been told that it takes long."""
    told: list[object] = []
    loop = asyncio.get_running_loop()
    slow = _Slow()
    slow.error = OSError("away")
    recent: Recent[int] | None = Recent(slow.look, fresh_seconds=60)
    assert recent is not None
    assert await recent.take_within(0) is None
    loop.set_exception_handler(lambda _, context: told.append(context))
    try:
        slow.may_end.set()
        await asyncio.sleep(0.01)
        slow.error = recent = None  # by its traceback, an error holds on to whoever it has met
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert told == []
