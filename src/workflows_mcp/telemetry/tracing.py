"""Spans for OpenTelemetry: runs, waves and blocks, one within the other, and the operations of their store.

A span tells names, sizes and classes of errors. Of errors of this package it tells the message, too, which shows no
payload; of others, such as what a block printed, it does not.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workflows_mcp.engine import events
from workflows_mcp.engine.contract import CheckpointStore
from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.engine.observing import Operation, StoreObserver
from workflows_mcp.engine.paths import without_keys
from workflows_mcp.errors import WorkflowsError
from workflows_mcp.telemetry.sharing import Shared

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["RunTracer", "StoreTracer", "trace_runs", "trace_store"]

_NAME = "workflows_mcp"

_ATTRIBUTES = {
    "workflow": "workflows.workflow.name",
    "checkpoint": "workflows.checkpoint.id",
    "run": "workflows.run.id",
}
"""What names are called in a span."""


class StoreTracer(StoreObserver):
    """A span for each operation of a store.

    Args:
        provider: Where the spans go; None: to the global provider.
    """

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        from opentelemetry import trace

        self._trace = trace
        self._tracer = self._trace.get_tracer(_NAME, tracer_provider=provider)
        self._kind = self._trace.SpanKind.CLIENT

    def began(self, operation: Operation) -> "Span":
        """See `StoreObserver.began`."""
        span: Span = self._tracer.start_span(
            f"checkpoint.{operation.name}",
            kind=self._kind,
            # For samplers; the rest is told at the end, of those spans that are kept.
            attributes={"db.system.name": operation.database, "db.operation.name": operation.name},
        )
        return span

    def ended(self, operation: Operation, mark: Any) -> None:  # noqa: ANN401 - what `began` gave, or nothing if it failed
        """See `StoreObserver.ended`."""
        if mark is None:
            return
        if mark.is_recording():
            about: dict[str, str | int] = {_ATTRIBUTES[name]: value for name, value in operation.names.items()}
            if operation.plain_bytes:
                about["workflows.state.bytes"] = operation.plain_bytes
            rows = operation.rows
            if rows is not None:
                about["workflows.rows"] = rows
            mark.set_attributes(about)
            if operation.error is not None:
                self._note_error(mark, operation.error)
        mark.end()

    def _note_error(self, span: "Span", error: BaseException) -> None:
        span.set_attribute("error.type", type(error).__name__)
        message = str(error) if isinstance(error, WorkflowsError) else None
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, message))


class RunTracer:
    """Spans for runs, waves and blocks; `listen` is told of an executor's events.

    Each event comes in the task that does what it tells of, so that a span that is made the current one there is the
    parent of all that begins in it: blocks of a wave, a nested workflow's waves, a store's operations.

    Args:
        provider: Where the spans go; None: to the global provider.
    """

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        from opentelemetry import context, trace

        self._trace, self._context = trace, context
        self._tracer = self._trace.get_tracer(_NAME, tracer_provider=provider)
        self._open: dict[str, dict[tuple[str, ...], tuple[Span, Context]]] = {}

    async def listen(self, event: events.Event) -> None:
        """Begin or end a span."""
        match event:
            case events.RunStarted():
                self._begin(event, ("run",), "workflow.run", {"workflows.run.continued": event.continued})
            case events.WaveStarted():
                about: dict[str, Any] = {"workflows.wave.index": event.wave}
                if event.within:
                    about["workflows.wave.within"] = without_keys(event.within)
                self._begin(event, ("wave", event.within), "workflow.wave", about)
            case events.WaveFinished():
                self._end(event, ("wave", event.within))
            case events.BlockStarted():
                about = {"workflows.block.id": without_keys(event.block_id), "workflows.wave.index": event.wave}
                self._begin(event, ("block", event.block_id), "workflow.block", about)
            case events.BlockFinished():
                self._finish_block(event)
            case events.RunPaused():
                self._end_run(event, "paused")
            case events.RunEnded():
                self._end_run(event, event.status, None if event.status == "success" else "failure")
            case events.RunStopped():
                self._end_run(event, event.reason, event.error)

    def _begin(self, event: events.Event, key: tuple[str, ...], name: str, about: dict[str, Any]) -> None:
        context = self._context.get_current()
        names = {"workflows.run.id": event.run_id, "workflows.workflow.name": event.workflow_name}
        span = self._tracer.start_span(name, context=context, attributes={**names, **about}, record_exception=False)
        self._open.setdefault(event.run_id, {})[key] = span, context
        self._context.attach(self._trace.set_span_in_context(span, context))

    def _end(self, event: events.Event, key: tuple[str, ...], error_type: str | None = None) -> None:
        begun = self._open.get(event.run_id, {}).pop(key, None)
        if begun is None:
            return
        span, context = begun
        if error_type is not None:
            span.set_attribute("error.type", error_type)
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR))
        span.end()
        # Not by the token of the other `attach`: it would be refused if this were another task after all.
        self._context.attach(context)

    def _finish_block(self, event: events.BlockFinished) -> None:
        key = ("block", event.block_id)
        error_type = None if event.status == "succeeded" else "BlockFailed"
        if key in self._open.get(event.run_id, {}):
            self._end(event, key, error_type)
            return
        # It began in another process, or before the pause; what is known is how it ended.
        about = {"workflows.block.id": without_keys(event.block_id), "workflows.block.status": event.status}
        self._trace.get_current_span().add_event("workflow.block.finished", about)

    def _end_run(self, event: events.Event, outcome: str, error_type: str | None = None) -> None:
        keys = list(self._open.get(event.run_id, ()))
        for key in reversed(keys):
            if key == ("run",):
                self._open[event.run_id][key][0].set_attribute("workflows.run.outcome", outcome)
                self._end(event, key, error_type)
            else:
                self._end(event, key)
        self._open.pop(event.run_id, None)


_LOCK = threading.Lock()
_STORES: Shared[CheckpointStore, StoreTracer] = Shared()
_EXECUTORS: Shared[WorkflowExecutor, RunTracer] = Shared()


def trace_store(store: CheckpointStore, provider: "TracerProvider | None") -> Callable[[], None]:
    """Make a span of each operation of a store from now on; one, however often this is asked for.

    Returns:
        What ends it, once everybody who asked for it has called theirs.
    """

    def attach() -> StoreTracer:
        tracer = StoreTracer(provider)
        store.observe(tracer)
        return tracer

    def leave() -> None:
        with _LOCK:
            tracer = _STORES.leave(store, provider)
        if tracer is not None:
            store.unobserve(tracer)

    with _LOCK:
        _STORES.sweep()
        _STORES.join(store, provider, attach)
    return leave


def trace_runs(executor: WorkflowExecutor, provider: "TracerProvider | None") -> Callable[[], None]:
    """Make spans of what an executor does from now on; as `trace_store`."""

    def attach() -> RunTracer:
        tracer = RunTracer(provider)
        executor.add_listener(tracer.listen)
        return tracer

    def leave() -> None:
        with _LOCK:
            tracer = _EXECUTORS.leave(executor, provider)
        if tracer is not None:
            executor.remove_listener(tracer.listen)

    with _LOCK:
        _EXECUTORS.sweep()
        _EXECUTORS.join(executor, provider, attach)
    return leave
