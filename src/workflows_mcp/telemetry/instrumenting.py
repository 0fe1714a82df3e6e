"""Makes a store, or an executor with its store, be seen."""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from workflows_mcp.engine.contract import CheckpointStore
from workflows_mcp.engine.executor import WorkflowExecutor

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider
    from prometheus_client import CollectorRegistry

__all__ = ["Instrumentation", "instrument"]


class Instrumentation:
    """What `instrument` has attached; `close`, or the end of `with`, takes it off again."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def close(self) -> None:
        """Watch no more. What was counted stays counted, and what began while it was watched is told to its end."""
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def undo_with(self, step: Callable[[], None]) -> None:
        """Note what is to be done besides at the end."""
        self._undo.append(step)


def instrument(
    target: CheckpointStore | WorkflowExecutor,
    *,
    metrics: bool = True,
    tracing: bool = False,
    registry: "CollectorRegistry | None" = None,
    tracer_provider: "TracerProvider | None" = None,
    pulse_seconds: float = 15.0,
) -> Instrumentation:
    """Watch a store, or an executor and its store.

    Several stores and executors may be shown in one registry; stores of one kind are added up, and what is said of a
    database is said once, however many stores share it. What is watched already, by the same registry or the same
    provider, is not watched twice, and is watched until all that was returned for it is closed.

    Args:
        target: What to watch; it needs to know nothing of it.
        metrics: Whether to count, for Prometheus.
        tracing: Whether to make spans, for OpenTelemetry.
        registry: Where the metrics are registered; None: in `prometheus_client.REGISTRY`.
        tracer_provider: Where the spans go; None: to the global provider.
        pulse_seconds: How old the numbers may be for which the database is asked; it is asked when somebody reads the
            metrics, and not more often than this.

    Returns:
        What to close when the store is closed.

    Raises:
        ValueError: `pulse_seconds` is not a positive number.
    """
    if not pulse_seconds > 0:
        raise ValueError("pulse_seconds must be a positive number")
    executor = target if isinstance(target, WorkflowExecutor) else None
    store = target.checkpoint_store if isinstance(target, WorkflowExecutor) else target
    instrumentation = Instrumentation()
    try:
        if tracing:
            _trace(instrumentation, store, executor, tracer_provider)
        if metrics:
            _count(instrumentation, store, executor, registry, pulse_seconds)
    except BaseException:
        instrumentation.close()
        raise
    return instrumentation


def _trace(
    instrumentation: Instrumentation,
    store: CheckpointStore,
    executor: WorkflowExecutor | None,
    provider: "TracerProvider | None",
) -> None:
    from workflows_mcp.telemetry.tracing import trace_runs, trace_store

    instrumentation.undo_with(trace_store(store, provider))
    if executor is not None:
        instrumentation.undo_with(trace_runs(executor, provider))


def _count(
    instrumentation: Instrumentation,
    store: CheckpointStore,
    executor: WorkflowExecutor | None,
    registry: "CollectorRegistry | None",
    pulse_seconds: float,
) -> None:
    from workflows_mcp.telemetry.exporter import Exporter

    exporter = Exporter.of(registry)
    instrumentation.undo_with(exporter.watch_store(store, pulse_seconds))
    if executor is not None:
        instrumentation.undo_with(exporter.watch_runs(executor))
