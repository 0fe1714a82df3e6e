"""What it costs to be watched: the same work in turns, bare, with nobody watching, with metrics, with spans, with both.

What watching adds is processor time of the event loop's thread. It is measured as such, and compared with how long
the work takes: a machine that does other things makes the difference of two times on the clock mean nothing.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from prometheus_client import CollectorRegistry

from benchmarks.states import SIZES, Shape, StateSource
from workflows_mcp import CheckpointState, SQLAlchemyCheckpointStore, WorkflowExecutor, upgrade_schema
from workflows_mcp.telemetry import Instrumentation, instrument

__all__ = ["Cost", "report", "watching"]

_CONCURRENT = 64

_WORKFLOW = """\
name: flow
blocks:
  - {id: a, type: Shell, inputs: {command: "COMMAND"}}
  - {id: b, type: Shell, depends_on: [a], inputs: {command: "COMMAND"}}
  - {id: c, type: Shell, depends_on: [b], inputs: {command: "COMMAND"}}
"""
"""Three waves of one process each."""

_RUNS = {"the smallest process that there is": "true", "a process of 50 ms": "sleep 0.05"}

Work = Callable[["_Turn"], Awaitable[None]]


@dataclass(frozen=True)
class Cost:
    """What one piece of work takes in one way of being watched.

    Attributes:
        work: What is done.
        way: How it is watched.
        micros: The shortest time of one call or run of any turn, in µs.
        added: How much longer the loop's thread computed than in the bare way, in µs: each the least of any turn.
        share: That as a part of the time that the bare way took.
    """

    work: str
    way: str
    micros: float
    added: float
    share: float


class _Nowhere(SpanExporter):
    """Takes finished spans, as an exporter does in its own thread, and drops them."""

    def export(self, spans: Any) -> SpanExportResult:  # noqa: ANN401, ARG002 - the SDK's
        return SpanExportResult.SUCCESS


@dataclass
class _Turn:
    """One turn of one way.

    Attributes:
        store: Where it works.
        executor: Runs workflows over it.
        states: What is saved.
        is_bare: Whether the store is called past the code that asks for observers.
    """

    store: SQLAlchemyCheckpointStore
    executor: WorkflowExecutor
    states: list[CheckpointState]
    is_bare: bool

    async def save(self, state: CheckpointState) -> None:
        """Save a state."""
        if self.is_bare:
            await SQLAlchemyCheckpointStore.save_checkpoint.__wrapped__(self.store, state)  # type: ignore[attr-defined] # what is wrapped
        else:
            await self.store.save_checkpoint(state)

    async def load(self, checkpoint_id: str) -> None:
        """Load a state."""
        if self.is_bare:
            await SQLAlchemyCheckpointStore.load_checkpoint.__wrapped__(self.store, checkpoint_id)  # type: ignore[attr-defined] # as above
        else:
            await self.store.load_checkpoint(checkpoint_id)


async def _save_in_turn(turn: _Turn) -> None:
    for state in turn.states:
        await turn.save(state)


async def _save_together(turn: _Turn) -> None:
    left = iter(turn.states)

    async def work() -> None:
        for state in left:
            await turn.save(state)

    await asyncio.gather(*(work() for _ in range(_CONCURRENT)))


async def _load_in_turn(turn: _Turn) -> None:
    for state in turn.states:
        await turn.load(state.checkpoint_id)


async def _run(turn: _Turn, command: str) -> None:
    result = await turn.executor.execute_workflow(_WORKFLOW.replace("COMMAND", command))
    assert result.is_success


WAYS = ("bare", "nobody watches", "metrics", "spans, 1 % sampled", "spans, all", "metrics and spans")


@contextlib.contextmanager
def _watched(way: str, executor: WorkflowExecutor, providers: dict[str, TracerProvider]) -> Iterator[None]:
    registry = CollectorRegistry()
    watching = Instrumentation()
    if way == "metrics":
        watching = instrument(executor, registry=registry)
    elif way in providers:
        is_counted = way == "metrics and spans"
        watching = instrument(
            executor, metrics=is_counted, registry=registry, tracing=True, tracer_provider=providers[way]
        )
    with watching:
        yield


async def _measure(
    url: str, work: Work, states: list[CheckpointState], turns: int, calls: int
) -> dict[str, tuple[float, float]]:
    """The shortest time of a call on the clock, and of the thread's processor, by the way."""
    providers = {
        "spans, 1 % sampled": TracerProvider(sampler=TraceIdRatioBased(0.01)),
        "spans, all": TracerProvider(),
        "metrics and spans": TracerProvider(),
    }
    for provider in providers.values():
        provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    async with SQLAlchemyCheckpointStore(url) as store:
        executor = WorkflowExecutor(store)
        await _save_together(_Turn(store, executor, states, is_bare=True))
        for number in range(-1, turns):  # the first one warms up
            for place in range(len(WAYS)):
                way = WAYS[(place + number) % len(WAYS)]  # none is always behind the same other one
                with _watched(way, executor, providers):
                    started, computed = time.perf_counter(), time.thread_time()
                    await work(_Turn(store, executor, states, is_bare=way == "bare"))
                    computed, seconds = time.thread_time() - computed, time.perf_counter() - started
                if number >= 0:
                    found[way].append((seconds / calls, computed / calls))
    for provider in providers.values():
        provider.shutdown()
    return {way: (min(one[0] for one in turns), min(one[1] for one in turns)) for way, turns in found.items()}


def watching(folder: Path, turns: int, urls: dict[str, str]) -> list[Cost]:
    """Measure all of it.

    Args:
        folder: Where the SQLite file is put.
        turns: How many turns each way has at each piece of work.
        urls: Databases besides, at head, by the names that they have in the report.
    """
    path = str(folder / "watching.db")
    asyncio.run(upgrade_schema(path))
    costs = []
    for name, url in {"SQLite": path, **urls}.items():
        for size in ("1kb", "20kb"):
            states = StateSource(Shape(SIZES[size], SIZES[size])).take(256)
            works: dict[str, tuple[Work, int]] = {
                f"{name}: save {size}, one after the other": (_save_in_turn, len(states)),
                f"{name}: save {size}, {_CONCURRENT} at a time": (_save_together, len(states)),
                f"{name}: load {size}": (_load_in_turn, len(states)),
            }
            for title, (work, calls) in works.items():
                costs += _costs(title, asyncio.run(_measure(url, work, states, turns, calls)))
        for title, command in _RUNS.items():
            run = functools.partial(_run, command=command)
            found = asyncio.run(_measure(url, run, states[:1], turns, 1))
            costs += _costs(f"{name}: a run of three waves, each {title}", found)
    return costs


def _costs(title: str, found: dict[str, tuple[float, float]]) -> list[Cost]:
    bare_seconds, bare_computed = found[WAYS[0]]
    return [
        Cost(
            title,
            way,
            micros=seconds * 1e6,
            added=(computed - bare_computed) * 1e6,
            share=(computed - bare_computed) / bare_seconds,
        )
        for way, (seconds, computed) in found.items()
    ]


def report(costs: list[Cost]) -> str:
    """The costs as a text."""
    lines = []
    for cost in costs:
        if cost.way == WAYS[0]:
            lines += ["", cost.work]
        lines.append(f"  {cost.way:<20} {cost.micros:>10,.1f} µs  {cost.added:>+8.1f} µs  {cost.share:>+7.1%}")
    return "\n".join([*lines, ""])
