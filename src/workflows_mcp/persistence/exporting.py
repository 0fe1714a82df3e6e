"""From a store to a file."""

import asyncio
import dataclasses
import functools
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.filters import CheckpointFilter
from workflows_mcp.engine.stored import OnUnreadable, StoredCheckpoint
from workflows_mcp.errors import CheckpointStoreError
from workflows_mcp.persistence.batches import OnProgress, batches_of
from workflows_mcp.persistence.dialects.thread import CallThread
from workflows_mcp.persistence.transfer_file import Closing, Digest, Header, line_of
from workflows_mcp.persistence.transfer_output import OutputFile

__all__ = ["Exported", "export"]

_SECONDS_TO_CLOSE = 5.0


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
    """Write checkpoints to a file. See `export_checkpoints`; nothing of the file is left when it fails."""
    started = time.monotonic()
    thread = CallThread("workflows-mcp-export")
    output: OutputFile | None = None
    try:
        output = await thread.call(lambda: OutputFile(target, overwrite=overwrite))
        closing = await _Exporting(output, thread, on_unreadable, on_progress).run(store, wanted)
    finally:
        if output is not None:
            await asyncio.wait({thread.call(output.close)}, timeout=_SECONDS_TO_CLOSE)
        thread.stop()
    return Exported(closing.count, closing.damaged, closing.digest, time.monotonic() - started)


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

    async def run(self, store: CheckpointStore, wanted: CheckpointFilter) -> Closing:
        """Write the whole file."""
        total = await store.count_stored(wanted)
        header = Header(store.description, datetime.now(UTC).isoformat(timespec="seconds"), _given(wanted), total)
        await self._thread.call(lambda: self._output.write(header.line))
        async for batch in batches_of(store, wanted, self._count_unreadable):
            await self._thread.call(functools.partial(self._write, batch))
            if self._on_progress is not None:
                self._on_progress("exported", self._digest.count, total)
        closing = Closing(self._digest.count, self._unreadable, str(self._digest))
        await self._thread.call(lambda: self._output.write(closing.line))
        await self._thread.call(self._output.finish)
        return closing

    def _write(self, batch: list[StoredCheckpoint]) -> None:
        lines = [line_of(one) for one in batch]
        for line in lines:
            self._digest.add(line)
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
