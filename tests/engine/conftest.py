"""What the engine's tests share."""

import pytest

from tests.engine.probe import Probe
from workflows_mcp.engine.blocks import BLOCK_TYPES
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.events import Event
from workflows_mcp.engine.executor import WorkflowExecutor


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    """The block type `Probe`, for this test only."""
    probe = Probe()
    monkeypatch.setitem(BLOCK_TYPES, "Probe", probe)
    return probe


@pytest.fixture
def store() -> InMemoryCheckpointStore:
    """An empty store."""
    return InMemoryCheckpointStore()


@pytest.fixture
def events() -> list[Event]:
    """What has happened in the runs of `executor`."""
    return []


@pytest.fixture
def executor(store: InMemoryCheckpointStore, events: list[Event]) -> WorkflowExecutor:
    """An executor over `store` that writes into `events`."""

    async def collect(event: Event) -> None:
        events.append(event)

    return WorkflowExecutor(store, on_event=collect)
