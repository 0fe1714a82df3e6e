"""The contract of a checkpoint store as tests, for people who write a store of their own.

Needs `pytest` and `pytest-asyncio`, in either of its modes. Derive a class and give it a fixture named `store` that
yields an empty store::

    class TestMyStore(CheckpointStoreContract):
        @pytest_asyncio.fixture
        async def store(self):
            async with MyStore() as store:
                yield store
"""

import pytest

from workflows_mcp.testing.following import FollowingContract
from workflows_mcp.testing.leases import LeaseContract
from workflows_mcp.testing.listing import ListingContract
from workflows_mcp.testing.retention import RetentionContract
from workflows_mcp.testing.saving import SavingContract
from workflows_mcp.testing.transfer import TransferContract
from workflows_mcp.testing.values import assert_same, make_state

__all__ = ["CheckpointStoreContract", "assert_same", "make_state"]


@pytest.mark.asyncio
class CheckpointStoreContract(
    SavingContract, FollowingContract, LeaseContract, ListingContract, RetentionContract, TransferContract
):
    """Every promise of `CheckpointStore`, as a test."""
