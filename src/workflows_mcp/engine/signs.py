"""What stands before a run or a block for its status, wherever people look at it."""

from collections.abc import Mapping

__all__ = ["sign_of"]

_SIGNS: Mapping[str, str] = {
    "success": "✓",
    "succeeded": "✓",
    "completed": "✓",
    "done": "✓",
    "failure": "✗",
    "failed": "✗",
    "paused": "?",
    "running": "●",
    "may have begun": "●",
    "abandoned": "!",
    "interrupted": "!",
    "cancelled": "-",
    "skipped": "-",
    "not begun": "○",
}


def sign_of(status: str) -> str:
    """A sign for a status of a run, a checkpoint or a block, so that colour is not all that tells them apart."""
    return _SIGNS.get(status, "·")
