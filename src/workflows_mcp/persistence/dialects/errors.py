"""What a driver's error means, and the errors that are dealt with before a caller hears of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from workflows_mcp.errors import CheckpointStoreError, StoreUnavailableError

__all__ = ["BrokenBaseError", "Failure", "RowsDroppedError", "RowsHeldError", "RowsLockedError", "RowsThereError"]


@dataclass(frozen=True)
class Failure:
    """A driver's error in the project's terms.

    Attributes:
        error: What the caller gets.
        retriable: Whether the same call may succeed shortly, on a fresh connection.
        most_repeats: After how many failures like this one it will not; None: only the deadline ends it.
        is_late: Whether an answer did not come in the time that it was waited for. The database may be fine.
    """

    error: CheckpointStoreError
    retriable: bool = False
    most_repeats: int | None = None
    is_late: bool = False


class RowsDroppedError(CheckpointStoreError):
    """A commit was taken back, since not all was written that its fences let pass.

    Callers get an error that names their own checkpoint instead: which row it was is found when each is saved alone.
    """


class BrokenBaseError(StoreUnavailableError):
    """A statement was taken back, since a delta would be without its base: the foreign key holds.

    Where nothing that others do all the time, or have locked, can be mended before the deadline, it is the caller's.

    A delta was to be saved whose base is gone, or that would take the place of a row; or what is the base of others was
    to be deleted, or replaced by another state.
    """


class RowsHeldError(CheckpointStoreError):
    """Rows were not deleted, none of them, since a foreign key of somebody else's leads to one of them."""

    @classmethod
    def by(cls, description: str, tables: Sequence[str]) -> Self:
        """The error.

        Args:
            description: Names the database.
            tables: Whose foreign keys they may be.
        """
        names = " or ".join(repr(one) for one in tables)
        return cls(
            f"{description} keeps what was to be deleted: rows of its table {names} refer to it; delete those first"
        )


class RowsThereError(CheckpointStoreError):
    """Rows were not inserted, none of them, since one has the id of a row that is there."""


class RowsLockedError(Exception):
    """A statement was taken back, since somebody else has locked rows for longer than it is good to wait for.

    Not for callers: the writer lets others go on, and tries again.

    Attributes:
        ids: Of the rows.
    """

    def __init__(self, ids: Collection[str] = ()) -> None:
        super().__init__("somebody else has locked rows")
        self.ids = frozenset(ids)
