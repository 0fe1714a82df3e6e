"""When a run's lease may be over, by the clocks of its machine."""

import time

import pytest

from workflows_mcp.engine.lease import Heartbeat, Moment


async def nothing() -> None:
    """A renewal that always succeeds."""


@pytest.mark.parametrize(
    ("wall", "steady", "may_be_over"),
    [
        (29.0, 29.0, False),
        (31.0, 31.0, True),
        # The machine was asleep.
        (31.0, 1.0, True),
        # The clock was set ahead.
        (1e9, 1.0, True),
        # The clock was set back: while the process was stopped, or for no time at all.
        (-3600.0, 31.0, True),
        (-3600.0, 1.0, True),
        (5.0, 31.0, True),
    ],
)
async def test_either_clock_tells_that_a_lease_may_be_over(wall: float, steady: float, *, may_be_over: bool) -> None:
    """And one that was set back does, too, since nobody knows how long the machine was asleep."""
    heartbeat = Heartbeat(nothing, lambda _: None, 30.0)
    assert not heartbeat.may_be_over
    heartbeat.beat(Moment(time.time() - wall, time.monotonic() - steady))
    assert heartbeat.may_be_over is may_be_over
    await heartbeat.beat_now()
    assert not heartbeat.may_be_over
    heartbeat.stop()
