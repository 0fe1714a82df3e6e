"""`Shell`: runs a command with `/bin/sh -c`."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from workflows_mcp.engine.blocks.block import BlockContext, BlockFailedError, BlockInputs, BlockType, Text

__all__ = ["MAX_STREAM_BYTES", "Shell", "ShellInputs"]

MAX_STREAM_BYTES = 2**20
"""What is kept of each stream; the rest is read and dropped, and `truncated` says so."""

# Ours: database URLs with passwords, and secrets. PostgreSQL's: the password of the database.
_KEPT_FROM_COMMANDS = ("WORKFLOWS_", "WORKFLOW_SECRET_", "CHECKPOINT_", "PGPASSWORD", "PGPASSFILE")

_STDOUT, _STDERR = 1, 2
_MARGIN_BYTES = 64 * 2**10  # more than any way of writing a secret takes
_MAX_LINES_SHOWN = 10
_MAX_CHARACTERS_SHOWN = 2000
_SECONDS_TO_CLOSE = 1.0


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold U+0000")
    return text


def _a_variable_name(name: str) -> str:
    if not name or "=" in name:
        raise ValueError("the name of a variable is not empty and holds no =")
    return name


CommandText = Annotated[Text, AfterValidator(_without_nul)]


class ShellInputs(BlockInputs):
    """What a `Shell` takes.

    Attributes:
        command: What `/bin/sh -c` runs.
        working_dir: Where; by default where the process of the executor is.
        env: Variables besides those of the executor's process, which it hides its own from.
        timeout_seconds: After so many seconds the command and all that stays in its session are killed; None: never.
    """

    command: CommandText
    working_dir: CommandText | None = None
    env: dict[Annotated[CommandText, AfterValidator(_a_variable_name)], CommandText] = Field(default_factory=dict)
    timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class Shell(BlockType[ShellInputs]):
    """Runs a command in a session of its own, and is done when it has ended and nothing holds its output any more.

    Something that the command leaves running must therefore be detached from both streams (`>/dev/null 2>&1 &`).

    Outputs: `stdout` and `stderr`, as text, where what is not UTF-8 is replaced; `exit_code`; `truncated`: whether
    a stream had more than `MAX_STREAM_BYTES`. An exit code other than 0 fails the block.
    """

    name: ClassVar[str] = "Shell"
    inputs = ShellInputs
    output_names: ClassVar[frozenset[str] | None] = frozenset({"exit_code", "stderr", "stdout", "truncated"})

    async def run(self, inputs: ShellInputs, context: BlockContext) -> dict[str, Any]:
        """See `BlockType.run`; when it is cancelled or takes too long, its whole process group is killed."""
        transport, streams = await _start(inputs)
        try:
            async with asyncio.timeout(inputs.timeout_seconds):
                await streams.done.wait()
        except TimeoutError:
            await _kill(transport, streams)
            outputs = streams.outputs(transport.get_returncode(), context.scrub)
            how = f"the command was killed after {inputs.timeout_seconds:g} s (timeout_seconds)"
            raise BlockFailedError(f"{how}{_tail(outputs['stderr'])}", outputs) from None
        except BaseException:
            await _kill(transport, streams)
            raise
        finally:
            transport.close()
        exit_code = transport.get_returncode()
        outputs = streams.outputs(exit_code, context.scrub)
        if exit_code != 0:
            raise BlockFailedError(f"{_how_it_ended(exit_code)}{_tail(outputs['stderr'])}", outputs)
        return outputs


class _Streams(asyncio.SubprocessProtocol):
    """Keeps the beginning of both streams, and knows when the command is over."""

    def __init__(self) -> None:
        self.kept = {_STDOUT: bytearray(), _STDERR: bytearray()}
        self.truncated = False
        self.exited = asyncio.Event()
        self.done = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        kept = self.kept[fd]
        kept += data[: MAX_STREAM_BYTES + _MARGIN_BYTES - len(kept)]
        self.truncated = self.truncated or len(kept) > MAX_STREAM_BYTES

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        # Comes once the process has exited and both pipes are closed.
        self.done.set()

    def _text(self, fd: int, scrub: Callable[[str], str]) -> str:
        kept = self.kept[fd]
        text = scrub(kept.decode(errors="replace"))
        # Only now: where the stream was cut off there may be half of a secret, which goes with the margin.
        return text[: max(len(text) - max(len(kept) - MAX_STREAM_BYTES, 0), 0)]

    def outputs(self, exit_code: int | None, scrub: Callable[[str], str]) -> dict[str, Any]:
        return {
            "stdout": self._text(_STDOUT, scrub),
            "stderr": self._text(_STDERR, scrub),
            "exit_code": exit_code,
            "truncated": self.truncated,
        }


async def _start(inputs: ShellInputs) -> tuple[asyncio.SubprocessTransport, _Streams]:
    if inputs.working_dir is not None and not await asyncio.to_thread(Path(inputs.working_dir).is_dir):
        raise BlockFailedError(f"the working_dir {inputs.working_dir!r} is not a folder")
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            _Streams,
            "/bin/sh",
            "-c",
            inputs.command,
            stdin=asyncio.subprocess.DEVNULL,
            cwd=inputs.working_dir,
            env={**_environment(os.environ), **inputs.env},
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # asyncio would kill the shell alone, and not what the shell has started by now.
        with contextlib.suppress(OSError):  # it could not be started, and the cancellation goes on all the same
            transport, streams = await starting
            await _kill(transport, streams)
            transport.close()
        raise
    except OSError as error:
        raise BlockFailedError(f"the command could not be started: {error.strerror}") from None


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    # Settings are read whatever the case of their names.
    return {name: value for name, value in ours.items() if not name.upper().startswith(_KEPT_FROM_COMMANDS)}


async def _kill(transport: asyncio.SubprocessTransport, streams: _Streams) -> None:
    """Kill the command with all that it started, and wait until it is gone."""
    # It may be gone already; macOS answers EPERM when only a zombie is left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(transport.get_pid(), signal.SIGKILL)
    await streams.exited.wait()
    # What left the session may hold the pipes for as long as it likes; it is not waited for.
    waiter = asyncio.ensure_future(streams.done.wait())
    await asyncio.wait([waiter], timeout=_SECONDS_TO_CLOSE)
    waiter.cancel()


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:  # a real-time signal
            name = str(-exit_code)
        return f"the command was killed by signal {name}"
    return f"the command ended with exit code {exit_code}"


def _tail(stderr: str) -> str:
    lines = stderr.rstrip().splitlines()
    shown = "\n".join(lines[-_MAX_LINES_SHOWN:])[-_MAX_CHARACTERS_SHOWN:]
    return f"; stderr ends with:\n{shown}" if shown else "; stderr is empty"
