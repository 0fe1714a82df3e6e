"""The thread that calls a driver, and the timer that watches over those who wait."""

import asyncio
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from workflows_mcp import upgrade_schema
from workflows_mcp.persistence.dialects.thread import CallThread
from workflows_mcp.persistence.dialects.watch import Watch


class Payload:
    """Something large, perhaps."""


async def test_calls_are_made_in_their_order_in_one_thread() -> None:
    """And each hears what came of its own."""
    thread = CallThread("test")
    made: list[int] = []
    heard: list[tuple[int | None, BaseException | None]] = []

    def work(n: int) -> int:
        made.append(n)
        if n == 2:
            raise KeyError(n)
        return threading.get_ident()

    thread.begin(lambda: work(0), lambda result, error: heard.append((result, error)))
    first = await thread.call(lambda: work(1))
    with pytest.raises(KeyError):
        await thread.call(lambda: work(2))
    assert await thread.call(lambda: work(3)) == first != threading.get_ident()
    assert made == [0, 1, 2, 3]
    assert heard == [(first, None)]
    thread.stop()


async def test_a_call_that_is_given_up_is_made_all_the_same() -> None:
    """Before those that come after it; unless it was said that it can be dropped."""
    thread = CallThread("test")
    go_on = threading.Event()
    made: list[str] = []
    blocked = thread.call(lambda: go_on.wait(30))
    given_up = thread.call(lambda: made.append("given up"))
    given_up.cancel()
    dropped = thread.call(lambda: made.append("dropped"), can_be_dropped=True)
    dropped.cancel()
    kept = thread.call(lambda: made.append("kept"), can_be_dropped=True)
    go_on.set()
    assert await blocked
    await kept
    await thread.call(lambda: made.append("last"))
    assert made == ["given up", "kept", "last"]
    thread.stop()


async def test_a_thread_that_was_stopped_takes_no_call_and_ends_after_the_last() -> None:
    """Who asks too late must not wait for ever."""
    thread = CallThread("workflows-mcp-test-end")
    last = thread.call(lambda: "done")
    thread.stop()
    with pytest.raises(ValueError, match="stopped"):
        thread.call(lambda: None)
    assert await last == "done"
    while any(one.name == "workflows-mcp-test-end" for one in threading.enumerate()):  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.001)


async def test_what_is_to_begin_at_once_has_begun_when_the_event_loop_goes_on() -> None:
    """Or the thread has something else to do, which is not waited for."""
    thread = CallThread("test")
    begun, go_on = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return go_on.wait(30)

    first = thread.call(work, at_once=True)
    assert begun.wait(0.01)
    second = thread.call(lambda: "made", at_once=True)
    assert not second.done()
    go_on.set()
    assert await first
    assert await second == "made"
    thread.stop()


async def test_a_thread_keeps_nothing_of_a_call_that_is_over() -> None:
    """A payload may be large, and the next call a long time away."""
    thread = CallThread("test")
    payload = Payload()
    gone = weakref.ref(payload)
    assert await thread.call(lambda payload=payload: payload is not None)  # type: ignore[misc]
    del payload
    while gone() is not None:  # noqa: ASYNC110 - the thread lets go of it a moment later
        await asyncio.sleep(0.001)
    thread.stop()


def test_an_event_loop_that_is_closed_meanwhile_leaves_the_thread_whole() -> None:
    """It makes the calls that it has taken, and tells nobody."""
    made: list[int] = []
    go_on = threading.Event()

    async def leave() -> None:
        thread = CallThread("workflows-mcp-test-left")
        thread.call(lambda: go_on.wait(30))
        thread.call(lambda: made.append(1))
        thread.stop()

    asyncio.run(leave())
    go_on.set()
    while any(one.name == "workflows-mcp-test-left" for one in threading.enumerate()):
        time.sleep(0.001)
    assert made == [1]


def test_a_program_that_forgot_to_close_its_store_ends(tmp_path: Path) -> None:
    """What it was told is saved is there."""
    path = str(tmp_path / "left.db")
    asyncio.run(upgrade_schema(path))
    program = (
        "import asyncio, sys\n"
        "from workflows_mcp import SQLAlchemyCheckpointStore\n"
        "from workflows_mcp.testing import make_state\n"
        "async def main():\n"
        "    store = SQLAlchemyCheckpointStore(sys.argv[1])\n"
        "    for n in range(3):\n"
        "        print(await store.save_checkpoint(make_state(str(n))))\n"
        "    print(len(await store.list_checkpoints(limit=9)))\n"
        "    global left; left = store\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["0", "1", "2", "3"]), done.stderr


async def test_a_watch_fails_what_is_not_done_in_time() -> None:
    """In the order of their deadlines, and leaves alone what is done, given up, or has time left."""
    loop = asyncio.get_running_loop()
    watch = Watch(TimeoutError)
    now = loop.time()
    late, done, given_up, later, last = (loop.create_future() for _ in range(5))
    for future, seconds in ((late, 0.01), (done, 0.01), (given_up, 0.02), (later, 0.05), (last, 60)):
        watch.add(future, now + seconds)
    done.set_result("done")
    given_up.cancel()
    with pytest.raises(TimeoutError):
        await late
    assert not later.done()
    with pytest.raises(TimeoutError):
        await later
    assert loop.time() >= now + 0.05
    assert await done == "done"
    assert not last.done()
    watch.stop()
    assert not last.done()


async def test_a_watch_keeps_nothing_that_is_done() -> None:
    """However long the deadline is."""
    loop = asyncio.get_running_loop()
    watch = Watch(TimeoutError)
    gone: list[weakref.ref[Payload]] = []
    for _ in range(1000):
        future = loop.create_future()
        watch.add(future, loop.time() + 60)
        future.set_result(Payload())
        gone.append(weakref.ref(future.result()))
    assert len(watch._watched) == 1
    del future
    assert [reference() for reference in gone] == [None] * 1000
    watch.stop()
