"""The contract, held against the store in memory, SQLite files and a real PostgreSQL."""

import pytest

from tests.conftest import OpenStore
from workflows_mcp import CheckpointStore, InMemoryCheckpointStore, SQLAlchemyCheckpointStore
from workflows_mcp.testing import CheckpointStoreContract


class TestMemory(CheckpointStoreContract):
    """The executable specification itself."""

    @pytest.fixture
    def store(self) -> CheckpointStore:
        """An empty store in memory."""
        return InMemoryCheckpointStore()


class TestSQLite(CheckpointStoreContract):
    """A SQLite file."""

    @pytest.fixture
    def database(self) -> str:
        """Only this one."""
        return "sqlite"

    @pytest.fixture
    def store(self, open_store: OpenStore) -> SQLAlchemyCheckpointStore:
        """An empty store in a file."""
        return open_store()


class TestPostgreSQL(CheckpointStoreContract):
    """A real PostgreSQL server."""

    @pytest.fixture
    def database(self) -> str:
        """Only this one."""
        return "postgresql"

    @pytest.fixture
    def store(self, open_store: OpenStore) -> SQLAlchemyCheckpointStore:
        """An empty store in a database of its own."""
        return open_store()
