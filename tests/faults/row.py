"""A row of the table of faults: what goes wrong, what must hold all the same, and what was found."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

__all__ = ["PGBOUNCER", "STRACE", "SYSTEM_PATH", "TMPFS", "Check", "Effort", "Need", "Place", "Row", "Verdict", "timed"]

T = TypeVar("T")

SYSTEM_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin"
"""Where servers are found, too: a user's own path may lack the last two."""


@dataclass(frozen=True)
class Effort:
    """How thorough a harness is.

    Attributes:
        is_quick: Whether it shows that everything works, within some seconds, or takes its time.
        seed: Of what happens at random.
    """

    is_quick: bool = False
    seed: int = 7

    def of(self, long: T, quick: T) -> T:
        """The one or the other."""
        return quick if self.is_quick else long

    def chance(self) -> random.Random:
        """What decides at random, the same at every time."""
        return random.Random(self.seed)


@dataclass(frozen=True)
class Place:
    """Where a harness works.

    Attributes:
        database: `sqlite`, `postgresql`, or `all` for a harness that compares the stores.
        url: An empty database without a schema; of all stores: on PostgreSQL.
        folder: An empty folder.
    """

    database: str
    url: str
    folder: Path


@dataclass
class Verdict:
    """What a harness found.

    Attributes:
        figures: What was counted and measured, by name, in the order in which it is shown: `{"lost": 0}`.
        broken: The promises that were not kept, each in a line; must stay empty.
        seconds: How long it took.
    """

    figures: dict[str, object] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def require(self, holds: object, promise: str) -> None:
        """Note a promise that was not kept."""
        if not holds:
            self.broken.append(promise)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.figures.items())


Check = Callable[[Place, Effort], Awaitable[Verdict]]
"""What a harness does: a coroutine function of a module."""


@dataclass(frozen=True)
class Need:
    """What a harness needs of the system besides Python.

    Attributes:
        name: What it is.
        is_there: Whether this system has it.
        remedy: What brings it.
    """

    name: str
    is_there: Callable[[], bool]
    remedy: str


@dataclass(frozen=True)
class Row:
    """A harness.

    Attributes:
        fault: What goes wrong.
        promise: What holds all the same.
        check: Does it, and looks.
        databases: On which it is run, one after the other.
        needs: What it needs of the system.
        seconds: How long it may take on a busy machine before it counts as hung; quick ones have a fifth.
        is_alone: Whether it times what it does so closely that no other test may run beside it.
    """

    fault: str
    promise: str
    check: Check
    databases: tuple[str, ...] = ("sqlite", "postgresql")
    needs: tuple[Need, ...] = ()
    seconds: float = 480.0
    is_alone: bool = False

    def seconds_for(self, effort: Effort) -> float:
        """How long it may take with some effort."""
        return self.seconds / effort.of(1, 5)

    @property
    def missing(self) -> list[Need]:
        """What the system lacks."""
        return [need for need in self.needs if not need.is_there()]


def _can_mount() -> bool:
    """Whether this process may mount a file system, seen by itself and its children alone."""
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", "/tmp"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


PGBOUNCER = Need(
    "pgbouncer", lambda: shutil.which("pgbouncer", path=SYSTEM_PATH) is not None, "apt-get install pgbouncer"
)
STRACE = Need("strace", lambda: shutil.which("strace") is not None, "apt-get install strace")
TMPFS = Need("the right to mount a tmpfs", _can_mount, "run it as root, or in a container with CAP_SYS_ADMIN")


async def timed(check: Awaitable[Verdict]) -> Verdict:
    """A verdict, and how long it took."""
    began = time.perf_counter()
    verdict = await check
    verdict.seconds = time.perf_counter() - began
    return verdict
