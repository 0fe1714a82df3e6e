"""A span of time in steps."""

import pytest

from workflows_mcp.engine.checkpoint import CheckpointMetadata
from workflows_mcp.engine.series import MOST_STEPS, SavedInStep, Steps, count_series


def test_a_series_has_as_many_steps_as_are_allowed_and_no_more() -> None:
    """Each as long as the others."""
    assert Steps(0, 2 * MOST_STEPS, MOST_STEPS).seconds == 2
    with pytest.raises(ValueError, match="at most 10,000"):
        Steps(0, 2 * MOST_STEPS, MOST_STEPS + 1)


def test_sizes_are_added_up_apart() -> None:
    """Plain and as stored."""
    listed = [
        CheckpointMetadata("a", "w", moment, is_paused=False, full_bytes=100, stored_bytes=10)
        for moment in (1.0, 2.0, 15.0)
    ]
    assert count_series(listed, Steps(0, 20, 2)) == [SavedInStep(0, 2, 200, 20), SavedInStep(10, 1, 100, 10)]
