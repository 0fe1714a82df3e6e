"""Who may write to a run: what a save asks for besides its state, and what is said to those who may not.

Everything here is the same on all stores.
"""

import contextlib
import time
from typing import NamedTuple

from workflows_mcp.engine.filters import check_name, check_seconds
from workflows_mcp.errors import CheckpointAlreadyClaimedError, CheckpointNotFoundError, LeaseLostError

__all__ = [
    "MAX_LEASE_SECONDS",
    "Fence",
    "already_claimed",
    "check_fence",
    "check_lease",
    "lease_lost",
    "not_found",
    "not_saved",
]

MAX_LEASE_SECONDS = 10 * 365 * 86400
"""The longest lease; whoever wants a longer one wants none."""


class Fence(NamedTuple):
    """What a save asks for besides its state; see `CheckpointStore.save_checkpoint`."""

    follows: str | None
    owner: str | None
    lease_seconds: float | None


def check_lease(owner: object, lease_seconds: object) -> float:
    """The length of a lease in seconds, if it and its owner are fit to be such.

    Raises:
        ValueError: One of them is not.
    """
    check_name("owner", owner)
    seconds = check_seconds("lease_seconds", lease_seconds)
    if not 0 < seconds <= MAX_LEASE_SECONDS:
        raise ValueError(f"lease_seconds must be more than 0 and at most {MAX_LEASE_SECONDS:,} (10 years)")
    return seconds


def check_fence(
    checkpoint_id: str, *, follows: str | None, owner: str | None, lease_seconds: float | None
) -> Fence | None:
    """What a save asks for besides its state; None: nothing.

    Raises:
        ValueError: It makes no sense.
    """
    if follows is None and owner is None and lease_seconds is None:
        return None
    if follows is not None and check_name("follows", follows) == checkpoint_id:
        raise ValueError("follows must name another checkpoint than the one that is saved")
    if lease_seconds is not None:
        if owner is None:
            raise ValueError("lease_seconds needs an owner, to whom the checkpoint is leased")
        lease_seconds = check_lease(owner, lease_seconds)
    elif owner is not None:
        check_name("owner", owner)
    return Fence(follows, owner, lease_seconds)


def not_saved(checkpoint_id: str, fence: Fence) -> LeaseLostError:
    """The error for a save that its fence did not let pass."""
    if fence.follows is None:
        return LeaseLostError(
            f"checkpoint {checkpoint_id!r} was not saved: it is there already, and not this owner's. Somebody else has "
            "begun, or taken over, this run: stop working on it (or it is no state of this run: give each state an "
            "id of its own)"
        )
    whose = unless = ""
    if fence.owner is not None:
        whose = ", or is not leased to this owner any more"
        unless = f" (or a checkpoint {checkpoint_id!r} is there already that somebody else saved: give each state an "
        unless += "id of its own)"
    return LeaseLostError(
        f"checkpoint {checkpoint_id!r} was not saved: {fence.follows!r}, which it follows, is gone, is followed by "
        f"another one{whose}. Somebody else has taken over, cancelled or deleted this run: stop working on it{unless}"
    )


def lease_lost(checkpoint_id: str) -> LeaseLostError:
    """The error for renewing or releasing a lease that is not the owner's any more."""
    return LeaseLostError(
        f"the lease on checkpoint {checkpoint_id!r} is not this owner's any more: the checkpoint was followed, claimed "
        "by somebody else, released or deleted. If it was not this owner who did so, stop working on its run"
    )


def not_found(checkpoint_id: str) -> CheckpointNotFoundError:
    """The error for claiming what is not there."""
    return CheckpointNotFoundError(
        f"there is no checkpoint {checkpoint_id!r}: it was deleted or never saved; list_checkpoints() has all there are"
    )


def already_claimed(
    checkpoint_id: str, *, is_superseded: bool, lease_expires_at: float | None
) -> CheckpointAlreadyClaimedError:
    """The error for claiming what somebody else has claimed, or gone on from."""
    if is_superseded:
        return CheckpointAlreadyClaimedError(
            f"checkpoint {checkpoint_id!r} is history: its run has gone on. The run's head is the one to claim "
            "(list_checkpoints with heads_only=True)"
        )
    until = ""
    if lease_expires_at is not None:
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # as no store has written it
            until = time.strftime(" until %Y-%m-%d %H:%M:%S UTC", time.gmtime(min(lease_expires_at, _LAST_SECOND)))
    return CheckpointAlreadyClaimedError(
        f"checkpoint {checkpoint_id!r} is claimed by somebody else{until}, longer if they renew it: leave it to them, "
        "or try again when that lease has run out"
    )


_LAST_SECOND = 253402300799.0
"""The end of the year 9999, for clocks that are very wrong."""
