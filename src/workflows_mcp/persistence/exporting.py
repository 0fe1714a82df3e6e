"""From a store to a file."""

import asyncio
import dataclasses
import functools
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.filters import CheckpointFilter, Position
from workflows_mcp.engine.stored import OnUnreadable, StoredCheckpoint
from workflows_mcp.errors import CheckpointFileError, CheckpointStoreError
from workflows_mcp.persistence.batches import OnProgress, batches_of
from workflows_mcp.persistence.dialects.thread import CallThread
from workflows_mcp.persistence.transfer_file import Closing, Digest, Header, line_of
from workflows_mcp.persistence.transfer_output import OutputFile

__all__ = ["Exported", "export"]

T = TypeVar("T")


@dataclass(frozen=True)
class Exported:
    """What an export has written.

    Attributes:
        count: How many checkpoints.
        damaged: How many were left out, since they cannot be read.
        digest: The digest of their lines.
        seconds: How long it took.
    """

    count: int
    damaged: int
    digest: str
    seconds: float


async def export(
    store: CheckpointStore,
    target: Path | BinaryIO,
    wanted: CheckpointFilter,
    *,
    overwrite: bool = False,
    on_unreadable: OnUnreadable | None = None,
    on_progress: OnProgress | None = None,
) -> Exported:
    """Write checkpoints to a file. See `export_checkpoints`; nothing of the file is left when it fails.

    The same holds when it is cancelled; one that is cancelled when all is written already succeeds.
    """
    started = time.monotonic()
    thread = CallThread("workflows-mcp-export")
    opening = thread.call(lambda: OutputFile(target, overwrite=overwrite))
    try:
        output = await asyncio.shield(opening)
        closing = await _Exporting(output, thread, on_unreadable, on_progress).run(store, wanted)
    finally:
        await _settled(opening)
        if not opening.exception():
            await _settled(thread.call(opening.result().close))
        thread.stop()
    return Exported(closing.count, closing.damaged, closing.digest, time.monotonic() - started)


async def _settled(call: "asyncio.Future[T]") -> bool:
    """Wait for a call that cannot be given up, however often one is told to stop; whether one was."""
    task = asyncio.current_task()
    was_cancelled = False
    while not call.done():
        try:
            await asyncio.wait({call})
        except asyncio.CancelledError:
            was_cancelled = True
            if task is not None:
                task.uncancel()
    return was_cancelled


class _Exporting:
    """An export under way.

    Args:
        output: Where the lines go.
        thread: What writes them.
        on_unreadable: See `batches_of`.
        on_progress: Hears how far it is.
    """

    def __init__(
        self,
        output: OutputFile,
        thread: CallThread,
        on_unreadable: OnUnreadable | None,
        on_progress: OnProgress | None,
    ) -> None:
        self._output = output
        self._thread = thread
        self._on_unreadable = on_unreadable
        self._on_progress = on_progress
        self._digest = Digest()
        self._unreadable = 0
        self._last: Position | None = None

    async def run(self, store: CheckpointStore, wanted: CheckpointFilter) -> Closing:
        """Write the whole file."""
        total = await store.count_stored(wanted)
        header = Header(store.description, datetime.now(UTC).isoformat(timespec="seconds"), _given(wanted), total)
        await self._thread.call(lambda: self._output.write(header.line))
        async for batch in batches_of(store, wanted, self._count_unreadable):
            await self._thread.call(functools.partial(self._write, batch))
            if self._on_progress is not None:
                self._on_progress("exported", self._digest.count, total)
        if self._unreadable and not self._digest.count:
            raise CheckpointFileError(
                f"none of the {self._unreadable:,} checkpoints in {store.description} can be read: there is nothing "
                "to export; no file was made or replaced"
            )
        closing = Closing(self._digest.count, self._unreadable, str(self._digest))
        await self._thread.call(lambda: self._output.write(closing.line))
        await self._finish()
        return closing

    async def _finish(self) -> None:
        """Have the file get its name. To bring it to the disk may take long, and is not given up half way."""
        call = self._thread.call(self._output.finish)
        was_cancelled = await _settled(call)
        if was_cancelled and call.exception() is not None:
            raise asyncio.CancelledError
        call.result()

    def _write(self, batch: list[StoredCheckpoint]) -> None:
        lines: list[bytes] = []
        for one in batch:
            place = (one.state.created_at, one.checkpoint_id)
            if self._last is not None and place >= self._last:
                raise CheckpointFileError(
                    f"checkpoint {one.checkpoint_id!r} came out of order, and no import would take such a file: the "
                    "store was changed meanwhile, or does not stream the newest first. Export again; no part of the "
                    "file is left"
                )
            self._last = place
            lines.append(line_of(one))
            self._digest.add(lines[-1])
        self._output.write(b"".join(lines))

    def _count_unreadable(self, checkpoint_id: str, error: CheckpointStoreError) -> None:
        if self._on_unreadable is None:
            raise error
        self._unreadable += 1
        self._on_unreadable(checkpoint_id, error)


def _given(wanted: CheckpointFilter) -> dict[str, Any]:
    """The filters that leave something out, by name."""
    return {
        name: value for name, value in dataclasses.asdict(wanted).items() if value is not None and value is not False
    }
