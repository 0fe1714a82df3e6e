"""The contract, held against the store in memory, SQLite files and a real PostgreSQL."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.conftest import OpenStore, administer, fresh_database
from workflows_mcp import CheckpointStore, InMemoryCheckpointStore, SQLAlchemyCheckpointStore
from workflows_mcp.persistence.keys import new_key
from workflows_mcp.testing import CheckpointStoreContract
from workflows_mcp.testing.saving import SavingContract
from workflows_mcp.testing.transfer import TransferContract


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def one_database(postgres_server: str, postgres_template: str) -> AsyncIterator[str]:
    """The URL of a PostgreSQL database at head, for one test after the other."""
    async for url in fresh_database(postgres_server, template=postgres_template):
        yield url


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
    async def database_url(self, one_database: str) -> str:
        """One that is emptied: what the contract knows of stores changes nothing but rows."""
        await administer(one_database, "TRUNCATE checkpoints")
        return one_database

    @pytest.fixture
    def store(self, open_store: OpenStore) -> SQLAlchemyCheckpointStore:
        """An empty store in a database."""
        return open_store()


class TestSealed(SavingContract):
    """A SQLite file whose checkpoints are sealed: what concerns states and prompts is as ever."""

    @pytest.fixture
    def database(self) -> str:
        """Only this one."""
        return "sqlite"

    @pytest.fixture
    def store(self, open_store: OpenStore) -> SQLAlchemyCheckpointStore:
        """An empty store with a key."""
        return open_store(encryption_keys=new_key().entry, encryption="required")


class _OneByOne(InMemoryCheckpointStore):
    """A store of somebody else's, which does nothing in bulk."""

    iter_stored = CheckpointStore.iter_stored
    load_stored = CheckpointStore.load_stored
    write_stored = CheckpointStore.write_stored


@pytest.mark.asyncio
class TestOneByOne(TransferContract):
    """What the contract itself does for stores that override none of it."""

    @pytest.fixture
    def store(self) -> CheckpointStore:
        """An empty store in memory."""
        return _OneByOne()
