"""Log lines for programs: one JSON object a line. They tell names, sizes and times, and never what a run works on."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from workflows_mcp.engine import events
from workflows_mcp.engine.paths import without_keys

__all__ = ["JSONFormatter", "RunLog"]


class JSONFormatter(logging.Formatter):
    """Makes a JSON object of a record.

    It has `time` (ISO 8601, UTC), `level`, `logger` and `message`; what the record holds under `fields`; `error`, the
    class of an exception; and `trace_id` and `span_id` when an OpenTelemetry span is the current one. An exception's
    text and traceback may show what is stored, and are left out.

    Args:
        with_tracebacks: Whether to have tracebacks all the same, for finding a bug.
    """

    def __init__(self, *, with_tracebacks: bool = False) -> None:
        super().__init__()
        self._with_tracebacks = with_tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line |= {name: value for name, value in fields.items() if name not in line}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            if self._with_tracebacks:
                line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        line |= _current_span()
        return json.dumps(line, default=repr)


class RunLog:
    """Logs the events of an executor; its `listen` is told of them."""

    def __init__(self) -> None:
        self._log = logging.getLogger("workflows_mcp.runs")

    async def listen(self, event: events.Event) -> None:
        """Log an event."""
        described = _described(event)
        if described is None:
            return
        level, message, about = described
        fields = {"event": type(event).__name__, "run_id": event.run_id, "workflow": event.workflow_name, **about}
        self._log.log(level, message, extra={"fields": fields})


_Described = tuple[int, str, dict[str, Any]]


def _described(event: events.Event) -> _Described | None:
    """Level, message and fields. Prompts, answers and what a failed block said are left out."""
    about: dict[str, Any]
    match event:
        case events.RunStarted():
            message = "a run goes on" if event.continued else "a run begins"
            return logging.INFO, message, {"wave": event.wave, "waves": len(event.waves)}
        case events.RunPaused():
            about = {"checkpoint_id": event.checkpoint_id, "block": without_keys(event.block_id)}
            return logging.INFO, "a run waits for an answer", about
        case events.RunEnded():
            level = logging.INFO if event.status == "success" else logging.WARNING
            return level, "a run is over", {"status": event.status, "checkpoint_id": event.checkpoint_id}
        case events.RunStopped():
            about = {"reason": event.reason, "error": event.error}
            return logging.WARNING, "a run was stopped before its end", about
        case events.CheckpointSaved():
            about = {"checkpoint_id": event.checkpoint_id, "status": event.status.value, "wave": event.wave}
            return logging.DEBUG, "a checkpoint is saved", about
    return _of_wave_or_block(event)


def _of_wave_or_block(event: events.Event) -> _Described | None:
    about: dict[str, Any]
    match event:
        case events.WaveStarted():
            about = {"wave": event.wave, "within": without_keys(event.within), "blocks": len(event.block_ids)}
            return logging.INFO, "a wave begins", about
        case events.WaveFinished():
            about = {"wave": event.wave, "within": without_keys(event.within), "seconds": round(event.seconds, 3)}
            return logging.INFO, "a wave waits" if event.waits else "a wave is over", about
        case events.BlockStarted():
            return logging.DEBUG, "a block begins", {"block": without_keys(event.block_id), "wave": event.wave}
        case events.BlockFinished():
            level = logging.INFO if event.status == "succeeded" else logging.WARNING
            about = {"block": without_keys(event.block_id), "wave": event.wave, "status": event.status}
            return level, "a block is over", {**about, "seconds": round(event.seconds, 3)}
        case events.BlockSkipped():
            return logging.INFO, "a block is skipped", {"block": without_keys(event.block_id), "wave": event.wave}
    return None


def _current_span() -> dict[str, str]:
    """The ids of the current span, if there is one. A library that nobody has imported has none."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
