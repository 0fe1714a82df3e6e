"""From a file to a store."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.stored import OnConflict, StoredCheckpoint, Writing
from workflows_mcp.errors import CheckpointConflictError
from workflows_mcp.persistence.batches import Batch, OnProgress
from workflows_mcp.persistence.dialects.thread import CallThread
from workflows_mcp.persistence.guide_array import MAX_ARRAY_BYTES, read_array
from workflows_mcp.persistence.transfer_file import Closing, read_checkpoints, read_header
from workflows_mcp.persistence.transfer_input import InputFile

__all__ = ["CheckedFile", "Imported", "checked_file", "import_checked"]

_SECONDS_TO_CLOSE = 1.0


@dataclass(frozen=True)
class Imported:
    """What became of the checkpoints of a file.

    Attributes:
        written: How many were new.
        present: How many were there already.
        replaced: How many replaced others.
        skipped: How many others were left as they are.
        heads: How many of `present` and `skipped` stayed heads, though others follow them where they come from:
            somebody has a lease on them, or they differ.
        left_out: How many the export had left out, since they were damaged.
        digest: The digest in the file; None: it has none.
        seconds: How long it took, without checking the file.
    """

    written: int
    present: int
    replaced: int
    skipped: int
    heads: int
    left_out: int
    digest: str | None
    seconds: float

    @property
    def kept(self) -> int:
        """How many the store now has as the file has them."""
        return self.written + self.present + self.replaced


class CheckedFile:
    """A file of checkpoints that was found to be whole.

    Attributes:
        count: How many there are.
        left_out: How many the export had left out.
        digest: The digest; None: it has none.
    """

    def __init__(self, file: InputFile, thread: CallThread) -> None:
        self._file = file
        self._thread = thread
        self._array: list[StoredCheckpoint] | None = None
        self.count = self.left_out = 0
        self.digest: str | None = None

    async def check(self, on_progress: OnProgress | None) -> None:
        """Read all of it once.

        Raises:
            CheckpointFileError: It is not whole, or something else.
        """
        if await self._thread.call(self._file.is_array):
            self._array = await self._thread.call(lambda: read_array(self._file.read_all(MAX_ARRAY_BYTES)))
            self.count = len(self._array)
            return
        lines = self._file.lines()
        header = await self._thread.call(lambda: read_header(lines))
        checkpoints = read_checkpoints(lines)
        closing: Closing | None = None
        while closing is None:
            batch, closing = await self._thread.call(lambda: _next_batch(checkpoints))
            self.count += len(batch)
            if on_progress is not None:
                on_progress("checked", self.count, header.count)
        self.left_out, self.digest = closing.damaged, closing.digest

    async def batches(self) -> AsyncIterator[list[StoredCheckpoint]]:
        """Its checkpoints, the newest first; the next ones are read while these are worked on.

        Raises:
            CheckpointFileError: It was changed since it was checked.
        """
        if self._array is not None:
            checkpoints: Iterator[StoredCheckpoint | Closing] = iter((*self._array, Closing(self.count, 0, "")))
        else:
            await self._thread.call(self._file.rewind)
            lines = self._file.lines()
            await self._thread.call(lambda: read_header(lines))
            checkpoints = read_checkpoints(lines)
        closing: Closing | None = None
        coming = self._thread.call(lambda: _next_batch(checkpoints))
        while closing is None:
            batch, closing = await coming
            if closing is None:
                coming = self._thread.call(lambda: _next_batch(checkpoints))
            yield batch


@asynccontextmanager
async def checked_file(source: Path | BinaryIO, on_progress: OnProgress | None = None) -> AsyncIterator[CheckedFile]:
    """Open a file and read all of it once, before anything is written anywhere.

    Raises:
        CheckpointFileError: It cannot be read, is not whole, or is something else.
    """
    thread = CallThread("workflows-mcp-import")
    file: InputFile | None = None
    try:
        file = await thread.call(lambda: InputFile(source))
        checked = CheckedFile(file, thread)
        await checked.check(on_progress)
        yield checked
    finally:
        if file is not None:
            await asyncio.wait({thread.call(file.close)}, timeout=_SECONDS_TO_CLOSE)
        thread.stop()


async def import_checked(
    store: CheckpointStore, file: CheckedFile, *, on_conflict: OnConflict, on_progress: OnProgress | None = None
) -> Imported:
    """Write the checkpoints of a file to a store. See `import_checkpoints`.

    Raises:
        CheckpointConflictError: See there; it says how many checkpoints were imported before.
    """
    started = time.monotonic()
    counts = dict.fromkeys(Writing, 0)
    conflict: str | None = None
    async for batch in file.batches():
        try:
            verdicts = await store.write_stored(batch, on_conflict=on_conflict)
        except CheckpointConflictError as error:
            conflict = str(error)
            break
        for verdict in verdicts.values():
            counts[verdict] += 1
        if on_progress is not None:
            on_progress("imported", sum(counts.values()), file.count)
    await store.write_stored(())  # nothing goes on from the last batch
    if conflict is not None:
        done = sum(counts.values())
        raise CheckpointConflictError(f"{conflict}. Before it, {done:,} of {file.count:,} checkpoints were imported")
    return Imported(
        written=counts[Writing.WRITTEN],
        present=counts[Writing.PRESENT] + counts[Writing.HELD],
        replaced=counts[Writing.REPLACED],
        skipped=counts[Writing.SKIPPED] + counts[Writing.PARTED],
        heads=counts[Writing.HELD] + counts[Writing.PARTED],
        left_out=file.left_out,
        digest=file.digest,
        seconds=time.monotonic() - started,
    )


def _next_batch(checkpoints: Iterator[StoredCheckpoint | Closing]) -> tuple[list[StoredCheckpoint], Closing | None]:
    """The next checkpoints, and the closing line if it comes behind them."""
    batch = Batch()
    for one in checkpoints:
        if isinstance(one, Closing):
            return batch.take(), one
        if batch.add(one):
            break
    return batch.take(), None
