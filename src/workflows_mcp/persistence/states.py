"""The states in a database's rows: one, that of a row which a statement has returned, or all of a listing."""

import functools
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Protocol

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState
from workflows_mcp.engine.contract import OnDamaged
from workflows_mcp.engine.filters import Position, position_of
from workflows_mcp.engine.leases import not_found
from workflows_mcp.engine.state_json import damaged
from workflows_mcp.errors import CheckpointDecodeError
from workflows_mcp.persistence.database import Database
from workflows_mcp.persistence.deltas import Plains, is_large
from workflows_mcp.persistence.row_codec import Contents, RowCodec
from workflows_mcp.persistence.rows import is_odd, shown_text

__all__ = ["States", "chunks"]

_PAGE_ROWS = 500
_PAYLOAD_BYTES = 8 * 2**20
"""What a walk holds at a time: metadata of so many rows, and about so many bytes of payload."""


class ListPage(Protocol):
    """Lists a part of what a walk goes through, the newest first."""

    async def __call__(self, *, limit: int, before: Position | None) -> list[CheckpointMetadata]: ...


class States:
    """Makes states of rows, in a thread where that takes long.

    Args:
        database: Where the rows are.
        codec: Makes states of them.
    """

    def __init__(self, database: Database, codec: RowCodec) -> None:
        self._database = database
        self._codec = codec

    async def load(self, checkpoint_id: str) -> CheckpointState | None:
        """See `CheckpointStore.load_checkpoint`."""
        row = await self._database.load(checkpoint_id)
        return None if row is None else (await self._unpacked(row)).state

    async def contents_of(self, row: Sequence[Any]) -> tuple[Sequence[Any], Contents]:
        """What is in a row that somebody's statement has returned, and the row with all that it took to unpack it."""
        for completed in await self._database.complete([row]):
            return completed, await self._unpacked(completed)
        raise not_found(row[0])

    async def _unpacked(self, row: Sequence[Any]) -> Contents:
        if not is_large(row):
            return self._codec.contents(row)
        return await self._database.threads.run(functools.partial(self._codec.contents, row))

    async def iterate(self, list_page: ListPage, on_damaged: OnDamaged | None) -> AsyncIterator[CheckpointState]:
        """See `CheckpointStore.iter_checkpoints`.

        Holds no connection between two pages, and the payloads of a part of a page at a time.
        """
        last: Position | None = None
        plains = Plains()
        while True:
            page = await list_page(limit=_PAGE_ROWS, before=last)
            for chunk in chunks(page):
                rows = await self._payloads_of(chunk, plains)
                for metadata in chunk:
                    if metadata.checkpoint_id not in rows and not is_odd(metadata.checkpoint_id):
                        continue
                    try:
                        state = self._codec.state(rows.get(metadata.checkpoint_id) or _not_found(metadata))
                    except CheckpointDecodeError as error:
                        if on_damaged is None:
                            raise
                        on_damaged(metadata, error)
                    else:
                        yield state
            if len(page) < _PAGE_ROWS:
                return
            last = position_of(page[-1])

    async def _payloads_of(self, listed: Sequence[CheckpointMetadata], plains: Plains) -> dict[str, Sequence[Any]]:
        """What loading some checkpoints needs, by their ids, as far as it is found."""
        wanted = [one.checkpoint_id for one in listed]
        odd = [one for one in wanted if is_odd(one)]
        rows = (
            [*await self._database.load_many([one for one in wanted if one not in odd], plains)]
            if len(odd) < len(wanted)
            else []
        )
        for one in odd:
            rows += await self._database.fetch_long(self._codec.loading.odd(one))
        return {row[0]: row for row in rows}


def _not_found(metadata: CheckpointMetadata) -> Sequence[Any]:
    raise damaged(shown_text(metadata.checkpoint_id), "its id is no text, so that it cannot be loaded by it")


def chunks(page: list[CheckpointMetadata]) -> Iterator[list[CheckpointMetadata]]:
    """A page in parts whose payloads fit into memory together; one alone may be larger."""
    chunk: list[CheckpointMetadata] = []
    size = 0
    for metadata in page:
        if chunk and size + metadata.full_bytes > _PAYLOAD_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(metadata)
        size += max(metadata.full_bytes, 0)
    if chunk:
        yield chunk
