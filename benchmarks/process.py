"""A process of its own for each contender, and calling functions in it.

The worker's event loop runs all the time, between calls too, as it would in a service. It ends when its parent
does: the pipe between them tells.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import traceback
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from benchmarks.contenders import ContenderSpec
from benchmarks.contenders.base import Contender, Participant, WorkflowContender
from benchmarks.states import Key, StateSource

__all__ = ["Bench", "Worker", "WorkerError", "forget_settings"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_END_SECONDS = 15

_PROCESSES: SpawnContext | ForkServerContext = multiprocessing.get_context("spawn")
"""How workers are started. A measured one begins with nothing, so that its memory and its caches are its own."""


class WorkerError(Exception):
    """Something failed in a worker; the text holds the traceback from there."""


@dataclass
class Bench:
    """What a worker keeps between two calls.

    Attributes:
        spec: Which contender it runs.
        contender: The open contender.
        source: Makes the states of the present workload.
        keys: What is stored, to be loaded.
        saver: A task that saves beside something else, while there is one.
        rate: Operations a second in the latest turn, which tells how many states the next one needs.
        saved: Ids of checkpoints that are to be deleted again.
    """

    spec: ContenderSpec
    contender: Participant | None = None
    source: StateSource | None = None
    keys: list[Key] = field(default_factory=list)
    saver: "asyncio.Task[Any] | None" = None
    saver_stop: asyncio.Event = field(default_factory=asyncio.Event)
    rate: float = 0.0
    saved: list[str] = field(default_factory=list)

    @property
    def opened(self) -> Contender:
        """The contender, which must be open and keep checkpoints."""
        assert isinstance(self.contender, Contender), f"{self.contender} keeps no checkpoints"
        return self.contender

    @property
    def runner(self) -> WorkflowContender:
        """The contender, which must be open and run workflows."""
        assert isinstance(self.contender, WorkflowContender), f"{self.contender} runs no workflows"
        return self.contender


class Worker:
    """A process that runs one contender. Ends, at the latest, when it is closed or its parent is gone."""

    def __init__(self, spec: ContenderSpec) -> None:
        self.spec = spec
        self._pipe, other = _PROCESSES.Pipe()
        self._process = _PROCESSES.Process(target=_serve, args=(other, spec), name=f"bench-{spec.name}", daemon=True)
        self._process.start()
        other.close()

    def call(
        self,
        function: Callable[Concatenate[Bench, _P], Awaitable[_R]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R:
        """Run a function of a module in the worker, on its `Bench`, and wait for the result.

        Raises:
            WorkerError: It failed, or the worker ended.
        """
        self.send(function, *args, **kwargs)
        return self.receive(function)

    def send(
        self,
        function: Callable[Concatenate[Bench, _P], Awaitable[object]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> None:
        """Begin a call; `receive` waits for it."""
        try:
            self._pipe.send((function, args, kwargs))
        except OSError as error:
            raise self._ended() from error

    def receive(self, function: Callable[Concatenate[Bench, _P], Awaitable[_R]]) -> _R:  # noqa: ARG002 - gives the type
        """Wait for the result of the call that was begun."""
        try:
            is_fine, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if not is_fine:
            raise WorkerError(f"{self.spec.database}: {self.spec.name} failed:\n{value}")
        result: _R = value
        return result

    def _ended(self) -> WorkerError:
        self._process.join(_END_SECONDS)
        return WorkerError(
            f"{self.spec.database}: {self.spec.name}: its process ended with exit code {self._process.exitcode}"
        )

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.is_alive()

    def close(self) -> None:
        """End the process: kindly if it is idle, by force if it is not."""
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._process.join(_END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()


def forget_settings(*prefixes: str) -> None:
    """Clear the environment of what begins so: no setting of the shell that started this may change a figure."""
    for name in [name for name in os.environ if name.startswith(prefixes)]:
        del os.environ[name]


def _serve(pipe: Connection, spec: ContenderSpec) -> None:
    # Ctrl-C goes to the whole group of processes; the parent is the one that decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forget_settings("WORKFLOWS_", "PG", "LANGGRAPH_", "LANGCHAIN_", "DBOS", "OTEL_")
    # What libraries have to say of their own future would tear the progress bar apart.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_answer(pipe, spec))


async def _answer(pipe: Connection, spec: ContenderSpec) -> None:
    bench = Bench(spec)
    while True:
        try:
            function, args, kwargs = await asyncio.to_thread(pipe.recv)
        except (EOFError, OSError):
            break
        try:
            answer: tuple[bool, object] = (True, await function(bench, *args, **kwargs))
        except Exception:  # noqa: BLE001 - the parent is told, whatever it is
            answer = (False, traceback.format_exc())
        pipe.send(answer)
    if bench.contender is not None:
        await bench.contender.close()
