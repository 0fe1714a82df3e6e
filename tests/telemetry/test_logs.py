"""Lines for programs, and the warnings of slow calls."""

import asyncio
import json
import logging
import re
import sqlite3
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from tests.conftest import OpenStore
from tests.engine.probe import shell, text
from workflows_mcp import InMemoryCheckpointStore, SQLAlchemyCheckpointStore, WorkflowExecutor
from workflows_mcp.engine.stored import StoredCheckpoint
from workflows_mcp.persistence.slow import SlowLog
from workflows_mcp.telemetry import instrument
from workflows_mcp.telemetry.logs import JSONFormatter, RunLog
from workflows_mcp.testing import make_state


def lines_of(caplog: pytest.LogCaptureFixture, formatter: JSONFormatter | None = None) -> list[dict[str, Any]]:
    """What was logged, as it is written and read again."""
    chosen = formatter or JSONFormatter()
    return [json.loads(chosen.format(record)) for record in caplog.records]


async def test_a_run_is_told_in_lines_that_show_nothing_it_works_on(caplog: pytest.LogCaptureFixture) -> None:
    """Each with a time in UTC, a level, and fields to search by."""
    caplog.set_level(logging.DEBUG, "workflows_mcp")
    executor = WorkflowExecutor(InMemoryCheckpointStore())
    executor.add_listener(RunLog().listen)
    flow = text(
        shell("good", "echo out-canary"),
        {**shell("bad", "echo said-canary >&2; false", "good"), "for_each": ["key-canary"]},
        {"id": "ask", "type": "Prompt", "inputs": {"prompt": "prompt-canary"}},
    )
    paused = await executor.execute_workflow(flow, run_id="r")
    assert paused.checkpoint_id is not None
    await executor.resume_workflow(paused.checkpoint_id, "answer-canary")
    found = lines_of(caplog)
    assert "canary" not in json.dumps(found)
    for line in found:
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert (line["logger"], line["run_id"], line["workflow"]) == ("workflows_mcp.runs", "r", "flow")
    assert found[0] == {
        "time": found[0]["time"], "level": "info", "logger": "workflows_mcp.runs", "message": "a run begins",
        "event": "RunStarted", "run_id": "r", "workflow": "flow", "wave": 0, "waves": 2,
    }  # fmt: skip
    told = {line["event"]: line for line in found}
    assert told["RunPaused"]["checkpoint_id"] == paused.checkpoint_id
    assert told["RunEnded"]["level"] == "warning"
    bad = [line for line in found if line.get("block") == "bad[]" and line["event"] == "BlockFinished"]
    assert [(line["status"], line["level"]) for line in bad] == [("failed", "warning")]


def test_a_line_within_a_span_names_it_and_shows_no_text_of_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """Nor a traceback, unless somebody looks for a bug."""
    log = logging.getLogger("workflows_mcp.test")
    with TracerProvider().get_tracer("test").start_as_current_span("outer") as span:
        context = span.get_span_context()
        try:
            raise RuntimeError("error-canary")
        except RuntimeError:
            log.exception("it failed", extra={"fields": {"seconds": 1.5, "level": "forged"}})
        [line] = lines_of(caplog)
        assert line["error"] == "RuntimeError"
        assert (line["seconds"], line["level"]) == (1.5, "error")
        assert line["trace_id"] == f"{context.trace_id:032x}"
        assert line["span_id"] == f"{context.span_id:016x}"
        assert "canary" not in json.dumps(line)
    [line] = lines_of(caplog, JSONFormatter(with_tracebacks=True))
    assert "error-canary" in line["traceback"]
    assert "trace_id" not in line


async def test_one_listener_that_fails_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """Nor from the run; and one that was removed is told nothing."""
    heard: list[object] = []
    removed: list[object] = []

    async def failing(event: object) -> None:
        raise RuntimeError(type(event).__name__)

    async def hearing(event: object) -> None:
        heard.append(event)

    async def leaving(event: object) -> None:
        removed.append(event)

    executor = WorkflowExecutor(InMemoryCheckpointStore(), on_event=failing)
    executor.add_listener(hearing)
    executor.add_listener(leaving)
    executor.remove_listener(leaving)
    assert (await executor.execute_workflow(text(shell("a", "true")))).is_success
    assert [type(event).__name__ for event in heard][-1] == "RunEnded"
    assert removed == []
    assert "the event callback failed on RunEnded" in caplog.text


async def test_a_save_that_waits_for_a_lock_is_warned_of_with_its_statement(
    tmp_path: Path, sqlite_template: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where its time went, and nothing that was saved."""
    path = tmp_path / "locked.db"
    path.write_bytes(sqlite_template.read_bytes())
    async with SQLAlchemyCheckpointStore(path, settings=_slow(0.4)) as store:
        await store.save_checkpoint(make_state("before"))
        assert caplog.records == []
        locking = sqlite3.connect(path, isolation_level=None)
        locking.execute("BEGIN IMMEDIATE")
        state = make_state("value-canary", context={"x": "payload-canary"})
        saving = [asyncio.create_task(store.save_checkpoint(state)) for _ in range(2)]
        await asyncio.sleep(0.5)
        locking.execute("COMMIT")
        locking.close()
        await asyncio.gather(*saving)
    [line] = lines_of(caplog)  # the other one came within the same second
    assert line["level"] == "warning"
    assert line["message"].startswith("slow save: ")
    assert line["operation"] == "save"
    assert line["seconds"] >= 0.4
    assert line["statement"].startswith("INSERT INTO checkpoints")
    assert "canary" not in json.dumps(line)
    assert str(path) in line["database"]


async def test_a_slow_read_and_a_slow_change_name_theirs(
    open_store: OpenStore, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the number of rows; every call is slow here."""
    store = open_store(slow_operation_seconds=1e-9)
    store._database._slow._told_at = float("inf")  # the save is no part of this
    await store.save_checkpoint(make_state("c"))
    found = []
    for call in (
        store.load_checkpoint("c"),
        store.pin_checkpoint("c"),
        store.claim_checkpoint("c", "o"),
        store.list_checkpoints(),
    ):
        store._database._slow._told_at = -1000.0
        await call
        found.append([line for line in lines_of(caplog) if "rows" in line][-1])
        caplog.clear()
    assert [(line["operation"], line["rows"]) for line in found] == [
        ("read", 1),
        ("change", 1),
        ("read", 1),
        ("read", 1),
    ]
    load, pin, _, listing = (line["statement"] for line in found)
    assert re.match(r"SELECT .*payload .*FROM checkpoints WHERE checkpoints.checkpoint_id = (\?|\$1)", load)
    assert pin.startswith("UPDATE checkpoints SET pinned=")
    assert "ORDER BY checkpoints.created_at DESC" in listing
    assert database in {"sqlite", "postgresql"}

    store._database._slow._told_at = float("inf")
    registry = CollectorRegistry()
    with instrument(store, registry=registry):
        await store.save_checkpoint(make_state("d"))
        await store.load_checkpoint("d")
        await store.pin_checkpoint("d")
        await store.write_stored([StoredCheckpoint(make_state("e"))])
    told = {one.labels["operation"] for family in registry.collect() for one in family.samples if "slow" in one.name}
    assert told == {"save", "read", "change", "put"}
    document = " ".join((Path(__file__).parents[2] / "docs" / "monitoring.md").read_text().split())
    assert "of slow operations `save`, `read`, `change` or `put`" in document


def test_a_flood_of_slow_calls_is_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    """Which says how many it stands for."""
    told: list[str] = []
    log = SlowLog(0.0, "the database", lambda operation, _: told.append(operation))
    for _ in range(5):
        with log.timed("read", "SELECT\n  1"):
            pass
    log._told_at = time.monotonic() - 2
    with log.timed("change", "UPDATE"):
        pass
    assert len(told) == 6
    first, second = caplog.messages
    assert first.endswith("in the database: SELECT 1")
    assert "(and 4 other slow calls since the last such line)" in second


def _slow(seconds: float) -> Any:
    from workflows_mcp.settings import Settings

    return Settings(slow_operation_seconds=seconds)
