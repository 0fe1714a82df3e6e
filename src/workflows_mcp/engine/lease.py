"""Keeps a run's lease while its blocks take their time."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Self

from workflows_mcp.errors import CheckpointStoreError, LeaseLostError

__all__ = ["Heartbeat", "Moment"]

_log = logging.getLogger(__name__)

_BEATS_PER_LEASE = 3
"""So many renewals may be due in the time of a lease: one may fail, and the next one still comes in time."""

_BEATS_AFTER_FAILURE = 10
"""The same once a renewal has failed for a reason that may pass."""


class Moment(NamedTuple):
    """A time by both clocks of the machine.

    Attributes:
        wall: In Unix seconds; somebody may set this clock.
        steady: In seconds since whenever; this clock may stand still while the machine is asleep.
    """

    wall: float
    steady: float

    @classmethod
    def now(cls) -> Self:
        """This one."""
        return cls(time.time(), time.monotonic())


class Heartbeat:
    """Renews a lease when nothing else has done so for a while: every save of a run takes a new one.

    Args:
        renew: Renews it.
        lost: Called once when it is lost.
        lease_seconds: For how long a lease is taken.
    """

    def __init__(
        self, renew: Callable[[], Awaitable[None]], lost: Callable[[LeaseLostError], None], lease_seconds: float
    ) -> None:
        self._renew = renew
        self._lost = lost
        self._seconds = lease_seconds
        self._asked_at: Moment | None = None
        self._due = 0.0  # by the event loop's clock
        self._is_stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self._renewal: asyncio.Task[None] | None = None

    @property
    def may_be_over(self) -> bool:
        """Whether the lease may have run out, say because the process was stopped, its machine asleep, or a clock set.

        A clock that was set back tells nothing, and the other one not whether the machine was asleep.
        """
        if self._asked_at is None:
            return False
        now = Moment.now()
        by_wall, by_steady = now.wall - self._asked_at.wall, now.steady - self._asked_at.steady
        return by_wall < 0 or max(by_wall, by_steady) >= self._seconds

    def beat(self, asked_at: Moment) -> None:
        """Note that the lease was taken or renewed.

        Args:
            asked_at: When that was asked for: by the time that it is heard of, it may be over again.
        """
        self._asked_at = asked_at
        if not self._is_stopped:
            self._wait(self._seconds / _BEATS_PER_LEASE)

    async def beat_now(self) -> None:
        """Renew the lease.

        Raises:
            LeaseLostError: It is lost.
            CheckpointStoreError: It could not be renewed.
        """
        asked_at = Moment.now()
        await self._renew()
        self.beat(asked_at)

    def stop(self) -> None:
        """Let the lease be, for good; a renewal that is under way is given up."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._renewal is not None:
            self._renewal.cancel()

    def _wait(self, seconds: float) -> None:
        """Renew in so many seconds, and not before."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + seconds
        # A timer that comes too early looks at the time again: to set another one at every save costs far more.
        if self._timer is None or self._timer.when() > self._due:
            self._set_timer(loop)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._due, self._begin)

    def _begin(self) -> None:
        self._timer = None
        if self._renewal is not None:  # a slow one; it goes on from there, and `stop` must know of it
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._due:
            self._set_timer(loop)
            return
        self._renewal = asyncio.create_task(self._beat_once(), name="renew a lease")

    async def _beat_once(self) -> None:
        try:
            await self.beat_now()
        except LeaseLostError as error:
            self._lost(error)
        except CheckpointStoreError as error:
            # Nobody can take the lease while the store is away, and the next save will tell whether somebody did.
            _log.warning("a lease could not be renewed, and is tried again: %s", error)
            self._wait(self._seconds / _BEATS_AFTER_FAILURE)
        except Exception as error:  # noqa: BLE001 - a store of somebody else's; its text may show anything
            _log.warning("a lease could not be renewed, and is tried again: %s", type(error).__name__)
            self._wait(self._seconds / _BEATS_AFTER_FAILURE)
        finally:
            self._renewal = None
