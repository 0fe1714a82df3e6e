"""All parts of the contract in one class."""

import pytest

from workflows_mcp.testing.following import FollowingContract
from workflows_mcp.testing.leases import LeaseContract
from workflows_mcp.testing.listing import ListingContract
from workflows_mcp.testing.retention import RetentionContract
from workflows_mcp.testing.saving import SavingContract
from workflows_mcp.testing.transfer import TransferContract

__all__ = ["CheckpointStoreContract"]


@pytest.mark.asyncio
class CheckpointStoreContract(
    SavingContract, FollowingContract, LeaseContract, ListingContract, RetentionContract, TransferContract
):
    """Every promise of `CheckpointStore`, as a test."""
