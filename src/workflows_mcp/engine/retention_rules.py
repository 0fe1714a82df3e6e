"""Which checkpoints retention deletes, and which it leaves alone whatever their age and number.

The store in memory deletes by these functions and a plan tells by them; what the databases are asked is held against
both by tests.
"""

from enum import StrEnum

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointStatus

__all__ = ["Exemption", "exemption", "is_expired", "is_recoverable"]


class Exemption(StrEnum):
    """Why retention leaves a checkpoint alone."""

    PINNED = "pinned"
    WAITING = "waiting"
    LEASED = "leased"
    UNFINISHED = "unfinished"
    """It is the newest of a run that was under way, and that can be recovered."""
    LEASED_LATELY = "leased lately"
    """Its age counts from the end of its lease."""


def exemption(metadata: CheckpointMetadata, now: float, *, keep_paused: bool) -> Exemption | None:
    """Why a checkpoint is not retention's to delete, however old it is; None: it is.

    Args:
        metadata: The checkpoint.
        now: Unix time in seconds.
        keep_paused: Whether one that waits is left alone.
    """
    if metadata.pinned:
        return Exemption.PINNED
    if keep_paused and metadata.is_paused:
        return Exemption.WAITING
    if metadata.lease_expires_at is not None and metadata.lease_expires_at > now:
        return Exemption.LEASED
    return Exemption.UNFINISHED if is_recoverable(metadata) else None


def is_recoverable(metadata: CheckpointMetadata) -> bool:
    """Whether it is the head of a run that somebody works on, or worked on until a lease ended."""
    is_running = metadata.status is CheckpointStatus.RUNNING and not metadata.superseded
    return is_running and metadata.lease_expires_at is not None


def is_expired(metadata: CheckpointMetadata, cutoff: float) -> bool:
    """Whether a checkpoint was created, and its lease ended, before a Unix time."""
    ended = metadata.lease_expires_at
    return metadata.created_at < cutoff and (ended is None or ended < cutoff)
