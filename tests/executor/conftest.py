"""What these tests share."""

import pytest

from tests.conftest import OpenStore
from tests.engine.probe import Probe
from workflows_mcp import CheckpointStore, InMemoryCheckpointStore
from workflows_mcp.engine.blocks import BLOCK_TYPES


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    """The block type `Probe`, for this test only."""
    probe = Probe()
    monkeypatch.setitem(BLOCK_TYPES, "Probe", probe)
    return probe


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """The name of each kind of store in turn."""
    return str(request.param)


@pytest.fixture
def store(database: str, open_store: OpenStore) -> CheckpointStore:
    """An empty store, of each kind in turn."""
    return InMemoryCheckpointStore() if database == "memory" else open_store()
