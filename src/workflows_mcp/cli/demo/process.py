"""The demo's end of a worker process: starts it, follows it step by step, kills it."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflows_mcp.cli.failures import CommandError

if TYPE_CHECKING:
    from workflows_mcp.engine.events import Event

__all__ = ["Worker", "start_worker"]

# The result holds the outputs of a run.
_LONGEST_LINE = 64 * 2**20


class Worker:
    """A worker process, see `workflows_mcp.cli.demo.worker`.

    Attributes:
        pid: The process.
        result: What the run has come to, once the events have ended.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid
        self.result: dict[str, Any] | None = None

    @property
    def signal(self) -> int | None:
        """The signal that ended it, as the kernel tells; None: none did."""
        code = self._process.returncode
        return -code if code is not None and code < 0 else None

    async def events(self) -> AsyncIterator["Event"]:
        """What happens in the run; the worker stands still while an event is looked at.

        Raises:
            CommandError: The worker failed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = json.loads(line)
            if "event" in message:
                yield _event_of(message)
                self._process.stdin.write(b"\n")
                continue
            if "error" in message:
                raise CommandError(f"the worker process failed: {message['error']}")
            self.result = message["result"]
        await self._process.wait()
        if self.result is None:
            raise CommandError(f"the worker process {self.pid} ended without a result")

    async def kill(self) -> None:
        """Kill it with SIGKILL, which it can neither catch nor delay; then the commands that it was running.

        A machine that goes down takes both along. Killed alone, the worker would leave its commands to go on by
        themselves, and the demo must leave nothing behind.
        """
        commands = _children_of(self.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        for command in commands:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(command, signal.SIGKILL)  # each was started as the leader of a group
        await self._process.wait()


@contextlib.asynccontextmanager
async def start_worker(**job: object) -> AsyncIterator[Worker]:
    """A worker process at work on a job; at the end, however it comes, the process is gone."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # the current folder may be a stranger's, and is no place to import from
        "-m",
        "workflows_mcp.cli.demo.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
        start_new_session=True,  # Ctrl-C is for the demo, which then kills its worker
    )
    worker = Worker(process)
    try:
        assert process.stdin is not None
        # Not in its arguments or its environment: the URL may hold a password, and others can read those.
        process.stdin.write(json.dumps(job).encode() + b"\n")
        yield worker
    finally:
        if process.returncode is None:
            await worker.kill()


def _event_of(message: dict[str, Any]) -> "Event":
    from workflows_mcp.engine import events
    from workflows_mcp.engine.checkpoint import CheckpointStatus

    kind = getattr(events, message.pop("event"))
    if kind is events.CheckpointSaved:
        message["status"] = CheckpointStatus(message["status"])
    if kind is events.RunStarted:
        message["waves"] = tuple(tuple(wave) for wave in message["waves"])
    event: Event = kind(**message)
    return event


def _children_of(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    if Path("/proc/self/stat").exists():
        table = _read_proc()
    else:
        answer = subprocess.run(["/bin/ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False)
        table = [(int(child), int(parent)) for child, parent in map(str.split, answer.stdout.splitlines())]
    return [child for child, parent in table if parent == pid]


def _read_proc() -> list[tuple[int, int]]:
    table = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                # pid (name) state ppid …, where the name may hold spaces and parentheses
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                table.append((int(folder.name), int(fields[1])))
    return table
