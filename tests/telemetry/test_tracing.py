"""Spans of a real run: each within what it is a part of, and none shows what the run works on."""

import asyncio
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from tests.conftest import OpenStore
from tests.engine.probe import shell, text
from workflows_mcp import InMemoryCheckpointStore, LeaseLostError, WorkflowExecutor
from workflows_mcp.telemetry import Instrumentation, instrument
from workflows_mcp.testing import make_state

INNER = """\
name: inner
blocks:
  - {id: work, type: Shell, inputs: {command: "echo in-canary"}}
  - {id: ask, type: Prompt, depends_on: [work], inputs: {prompt: "prompt-canary"}}
"""
OUTER = """\
name: outer
blocks:
  - {id: first, type: Shell, inputs: {command: "true"}}
  - {id: second, type: Shell, inputs: {command: "true"}}
  - {id: nested, type: Workflow, depends_on: [first, second], inputs: {workflow: inner}}
  - {id: bad, type: Shell, depends_on: [nested], for_each: ["key-canary"], inputs: {command: "echo bad-canary; false"}}
"""


class Spans:
    """What was exported."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def watch(self, target: Any) -> Instrumentation:
        """Make spans of what something does."""
        return instrument(target, metrics=False, tracing=True, tracer_provider=self.provider)

    def take(self) -> list[ReadableSpan]:
        """Those since the last time."""
        found = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return found


@pytest.fixture
def spans() -> Spans:
    """An exporter of the test's own."""
    return Spans()


def label(span: ReadableSpan) -> str:
    """A span in short: what it is about."""
    attributes = span.attributes or {}
    about = attributes.get("workflows.block.id", attributes.get("workflows.wave.index", ""))
    within = attributes.get("workflows.wave.within")
    return f"{span.name.removeprefix('workflow.')} {f'{within}:' if within else ''}{about}".strip()


def tree(spans: list[ReadableSpan]) -> list[str]:
    """The spans, each below and within its parent; the operations of a store by how many of each there are."""
    by_id = {span.context.span_id: span for span in spans if span.context}
    lines = []

    def show(parent: int | None, depth: int) -> None:
        found = [one for one in spans if (one.parent.span_id if one.parent else None) == parent]
        for span in sorted(found, key=lambda one: (one.start_time or 0, label(one))):
            assert span.parent is None or span.parent.span_id in by_id
            if not span.name.startswith("checkpoint."):
                lines.append("  " * depth + label(span))
            assert span.context is not None
            show(span.context.span_id, depth + 1)

    show(None, 0)
    return lines


async def test_the_spans_of_a_run_lie_within_one_another(spans: Spans, store_or_memory: Any) -> None:
    """Waves in their run, blocks in their waves, a nested workflow in its block; before a pause, and after it."""
    executor = WorkflowExecutor(store_or_memory)
    spans.watch(executor)
    executor.load_workflow(INNER)
    paused = await executor.execute_workflow(OUTER)
    assert paused.is_paused
    found = spans.take()
    assert tree(found) == [
        "run",
        "  wave 0",
        "    block first",
        "    block second",
        "  wave 1",
        "    block nested",
        "      wave nested:0",
        "        block nested/work",
        "      wave nested:1",
        "        block nested/ask",
    ]
    assert len({span.context.trace_id for span in found if span.context}) == 1
    run = next(span for span in found if span.name == "workflow.run")
    assert dict(run.attributes or {}) == {
        "workflows.run.id": paused.run_id,
        "workflows.workflow.name": "outer",
        "workflows.run.continued": False,
        "workflows.run.outcome": "paused",
    }
    saves = [span for span in found if span.name == "checkpoint.save"]
    parents = {span.context.span_id: label(span) for span in found if span.context}
    by_parent = [parents[span.parent.span_id] for span in saves if span.parent]
    assert by_parent == ["run", "run", "block nested", "run"]  # first, wave 0, inner wave 0, the pause
    for span in saves:
        about = dict(span.attributes or {})
        assert about.pop("workflows.checkpoint.id")
        assert int(str(about.pop("workflows.state.bytes"))) > 300
        assert about == {
            "db.system.name": store_or_memory.system,
            "db.operation.name": "save",
            "workflows.workflow.name": "outer",
            "workflows.run.id": paused.run_id,
        }
    assert paused.checkpoint_id is not None
    failed = await executor.resume_workflow(paused.checkpoint_id, "answer-canary")
    assert failed.status == "failure"
    resumed = spans.take()
    assert tree([span for span in resumed if not span.name.startswith("checkpoint.")]) == [
        "run",
        "  wave 2",
        "    block bad",
        "      block bad[]",
    ]
    run = next(span for span in resumed if span.name == "workflow.run")
    assert (run.attributes or {})["workflows.run.continued"] is True
    assert run.status.status_code is StatusCode.ERROR
    finished = [dict(event.attributes or {}) for event in run.events]
    assert {"workflows.block.id": "nested/ask", "workflows.block.status": "succeeded"} in finished
    assert "canary" not in "".join(span.to_json() for span in [*found, *resumed])


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """The name of each kind of store in turn."""
    return str(request.param)


@pytest.fixture
def store_or_memory(database: str, open_store: OpenStore) -> Any:
    """A store of each kind."""
    return InMemoryCheckpointStore() if database == "memory" else open_store()


async def test_a_failed_operation_tells_its_error_and_our_own_words(spans: Spans) -> None:
    """Of errors that are none of ours only the class."""

    class Odd(InMemoryCheckpointStore):
        async def load_checkpoint(self, checkpoint_id: str) -> Any:
            raise RuntimeError(f"canary {checkpoint_id}")

    store = Odd()
    spans.watch(store)
    with pytest.raises(LeaseLostError):
        await store.renew_lease("absent", "owner")
    with pytest.raises(RuntimeError):
        await store.load_checkpoint("c")
    renewal, load = spans.take()
    assert (renewal.attributes or {})["error.type"] == "LeaseLostError"
    assert renewal.status.description is not None
    assert "absent" in renewal.status.description
    assert (load.attributes or {})["error.type"] == "RuntimeError"
    assert load.status.status_code is StatusCode.ERROR
    assert load.status.description is None
    assert load.events == ()


async def test_runs_side_by_side_do_not_mix_and_leave_their_callers_span_alone(spans: Spans) -> None:
    """Each is a child of the span in which it was asked for."""
    executor = WorkflowExecutor(InMemoryCheckpointStore())
    spans.watch(executor)
    tracer = spans.provider.get_tracer("test")

    async def ask(name: str) -> None:
        with tracer.start_as_current_span(name) as span:
            await executor.execute_workflow(text(shell("a", "true"), shell("b", "true"), name=name))
            with tracer.start_as_current_span(f"after {name}") as after:
                assert getattr(after, "parent", None) == span.get_span_context()

    await asyncio.gather(ask("one"), ask("two"))
    found = spans.take()
    for name in ("one", "two"):
        caller = next(span for span in found if span.name == name)
        run = next(
            one
            for one in found
            if one.name == "workflow.run" and (one.attributes or {})["workflows.workflow.name"] == name
        )
        assert run.parent == caller.context
        blocks = [
            one for one in found if one.name == "workflow.block" and one.context.trace_id == caller.context.trace_id
        ]
        assert len(blocks) == 2


async def test_a_run_that_is_cancelled_ends_its_spans(spans: Spans) -> None:
    """All that were open, and none stays in memory."""
    started = asyncio.Event()

    async def notice(event: object) -> None:
        if type(event).__name__ == "BlockStarted":
            started.set()

    executor = WorkflowExecutor(InMemoryCheckpointStore(), on_event=notice)
    spans.watch(executor)
    running = asyncio.create_task(executor.execute_workflow(text(shell("a", "sleep 60"))))
    await started.wait()
    running.cancel()
    await asyncio.wait({running})
    found = spans.take()
    assert tree(found) == ["run", "  wave 0", "    block a"]
    run = next(span for span in found if span.name == "workflow.run")
    assert (run.attributes or {})["workflows.run.outcome"] == "cancelled"


async def test_a_store_that_is_watched_twice_makes_one_span_of_each_operation(spans: Spans) -> None:
    """By itself, and through an executor."""
    store = InMemoryCheckpointStore()
    spans.watch(store)
    spans.watch(WorkflowExecutor(store))
    await store.save_checkpoint(make_state())
    assert [span.name for span in spans.take()] == ["checkpoint.save"]


async def test_an_executor_that_is_watched_twice_makes_one_span_of_each_run(spans: Spans) -> None:
    """Until the last one who watches it ends; another provider's spans are its own."""
    others = Spans()
    executor = WorkflowExecutor(InMemoryCheckpointStore())

    async def run() -> tuple[list[str], list[str]]:
        await executor.execute_workflow(text(shell("a", "true")))
        found = ([span.name for span in one.take() if span.name.startswith("workflow.")] for one in (spans, others))
        return next(found), next(found)

    once = ["workflow.block", "workflow.wave", "workflow.run"]
    first, second = spans.watch(executor), spans.watch(executor)
    assert await run() == (once, [])
    other = others.watch(executor)
    first.close()
    assert await run() == (once, once)
    second.close()
    assert await run() == ([], once)
    other.close()
    assert await run() == ([], [])
    assert executor.checkpoint_store.observers == ()
