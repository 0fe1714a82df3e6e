"""A worker answers, tells what went wrong, and never outlives its parent's interest."""

import os
import time
from collections.abc import Iterator

import pytest

from benchmarks.contenders import contenders_of
from benchmarks.process import Bench, Worker, WorkerError

GUIDE = contenders_of("sqlite")[1]


async def add(bench: Bench, one: int, other: int) -> int:
    """Add, in a worker, and remember it."""
    bench.rate += one + other
    return int(bench.rate)


async def fail(_: Bench) -> None:
    """Fail, in a worker."""
    raise LookupError("nothing is there")


async def vanish(_: Bench) -> None:
    """End the worker in the middle of a call."""
    os._exit(7)


async def hang(_: Bench) -> None:
    """Block the worker's event loop."""
    time.sleep(60)  # noqa: ASYNC251 - that is the point


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker of its own."""
    with Worker(GUIDE) as made:
        yield made


def test_a_worker_keeps_what_it_has_between_calls(worker: Worker) -> None:
    """And gives back what its functions return."""
    assert worker.call(add, 1, 2) == 3
    assert worker.call(add, 1, other=3) == 7


def test_an_error_reaches_the_parent_with_its_traceback(worker: Worker) -> None:
    """With the contender's name; the worker goes on."""
    with pytest.raises(WorkerError, match=r"(?s)sqlite: guide failed.*in fail.*LookupError: nothing is there"):
        worker.call(fail)
    assert worker.call(add, 1, 1) == 2


def test_a_worker_that_ends_is_an_error(worker: Worker) -> None:
    """It does not hang."""
    with pytest.raises(WorkerError, match="exit code 7"):
        worker.call(vanish)


def test_a_busy_worker_is_killed_when_the_benchmark_is_interrupted() -> None:
    """As Ctrl-C does it: the process is gone, and nobody waits for it."""
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Worker(GUIDE) as worker:  # noqa: PT012 - what happens inside is the test
        worker.call(add, 1, 1)
        worker.send(hang)
        raise KeyboardInterrupt
    assert not worker.is_alive
    assert time.monotonic() - began < 20
