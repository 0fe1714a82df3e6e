"""The statements of claims, leases and pins. Each asks its conditions of the very row that it changes."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Double,
    Executable,
    Text,
    and_,
    bindparam,
    case,
    false,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.sql.expression import literal_column

from workflows_mcp.persistence.dialects import Dialect, Row
from workflows_mcp.persistence.dialects.types import time_now, time_of_statement
from workflows_mcp.persistence.statements import LIMIT, METADATA_FIELDS, PLAIN, TABLE, VERIFIED, Loading, Query

__all__ = ["abandoned", "claim", "holder", "pin", "release", "renewing", "undo_claim"]

C = TABLE.c

_RENEWED = {"checkpoint_id": Text(), "owner": Text(), "lease_seconds": Double()}

_is_it = C.checkpoint_id == bindparam("checkpoint_id")
_is_head = C.superseded == false()
_new_end = time_now() + bindparam("lease_seconds", type_=Double)


def claim(
    checkpoint_id: str, owner: str, lease_seconds: float, *, is_repeated: bool, loading: Loading = PLAIN
) -> Query:
    """Lease a head that nobody holds, and return what loading it needs.

    Args:
        checkpoint_id: Which one.
        owner: To whom.
        lease_seconds: For how long.
        is_repeated: Whether the same claim may have been made already, by somebody who did not hear of it.
        loading: What loading it needs.
    """
    values = {"checkpoint_id": checkpoint_id, "owner": owner, "lease_seconds": lease_seconds}
    return Query(_CLAIMS[loading, is_repeated], values)


def _claim(loading: Loading, *others: ColumnElement[bool]) -> Executable:
    is_free = or_(C.lease_owner.is_(None), C.lease_expires_at.is_(None), C.lease_expires_at <= time_now(), *others)
    lease: dict[str, Any] = {"lease_owner": bindparam("owner", type_=Text), "lease_expires_at": _new_end}
    return update(TABLE).where(_is_it, _is_head, is_free).values(lease).returning(*loading.columns)


_CLAIMS = {
    (loading, is_repeated): _claim(loading, *([C.lease_owner == bindparam("owner", type_=Text)] if is_repeated else []))
    for loading in (PLAIN, VERIFIED)
    for is_repeated in (False, True)
}


def holder(checkpoint_id: str) -> Query:
    """Whose a checkpoint is: whether it is history, when its lease ends or ended, and who holds it or did last."""
    return Query(_HOLDER, {"checkpoint_id": checkpoint_id})


_HOLDER = select(C.superseded, C.lease_expires_at, C.lease_owner).where(_is_it)


def renewing(dialect: Dialect, *, waits: bool) -> Callable[[Sequence[Row]], Query]:
    """Makes statements that begin leases anew, each an id, an owner and a length in seconds.

    They return the ids and owners of those that were renewed: of all that were not lost, or, unless one `waits` for
    rows that somebody else has locked, of those that were free.
    """
    leases = dialect.rows_of(_RENEWED)
    if not waits:
        leases = dialect.those_unlocked(C.checkpoint_id, leases)
    is_held = and_(C.lease_owner == leases.c.owner, C.lease_expires_at.is_not(None), _is_head)
    statement = (
        update(TABLE)
        .where(C.checkpoint_id == leases.c.checkpoint_id, is_held)
        .values(lease_expires_at=time_now() + leases.c.lease_seconds)
        .returning(C.checkpoint_id, C.lease_owner)
    )
    return lambda rows: Query(statement, dialect.rows_value(list(_RENEWED), rows))


def release(checkpoint_id: str, owner: str) -> Query:
    """End a lease, so that it is nobody's from now on; one that was released stays as it is."""
    return Query(_RELEASE, {"checkpoint_id": checkpoint_id, "owner": owner})


_is_earlier = C.lease_expires_at < time_now()
_RELEASE = (
    update(TABLE)
    .where(
        _is_it,
        _is_head,
        or_(C.lease_owner == bindparam("owner", type_=Text), C.lease_owner.is_(None)),
        C.lease_expires_at.is_not(None),
    )
    .values(lease_owner=null(), lease_expires_at=case((_is_earlier, C.lease_expires_at), else_=time_now()))
)


def undo_claim(checkpoint_id: str, owner: str, *, ended_at: float | None, before: str | None) -> Query:
    """Take a claim back, as though it had not been made.

    Args:
        checkpoint_id: Which one was claimed.
        owner: By whom.
        ended_at: When the lease before it ended; None: there was none.
        before: Who held that one. It still counts: nobody has taken the run over.
    """
    return Query(
        _UNDO_CLAIM, {"checkpoint_id": checkpoint_id, "owner": owner, "ended_at": ended_at, "owner_before": before}
    )


_ended_at = bindparam("ended_at", type_=Double)
_was_ended_early = _ended_at > time_now()  # since it was looked at
_UNDO_CLAIM = (
    update(TABLE)
    .where(_is_it, _is_head, C.lease_owner == bindparam("owner", type_=Text))
    .values(
        lease_owner=case((_was_ended_early, null()), else_=bindparam("owner_before", type_=Text)),
        lease_expires_at=case((_was_ended_early, time_now()), else_=_ended_at),
    )
)


def abandoned(limit: int | None) -> Query:
    """The metadata of running heads whose leases have ended, the longest ended first."""
    return Query(_ABANDONED) if limit is None else Query(_FIRST_ABANDONED, {"limit": limit})


_ABANDONED = (
    select(*(C[name] for name in METADATA_FIELDS))
    # In the words of the partial index, with which it must be seen to agree.
    .where(C.lease_expires_at.is_not(None), _is_head, literal_column("status = 'running'"))
    .where(C.lease_expires_at <= time_of_statement())
    .order_by(C.lease_expires_at, C.checkpoint_id)
)
_FIRST_ABANDONED = _ABANDONED.limit(LIMIT)


def pin(checkpoint_id: str, *, pinned: bool) -> Query:
    """Pin a checkpoint, or not any more."""
    return Query(_PIN, {"checkpoint_id": checkpoint_id, "pinned_now": pinned})


_PIN = update(TABLE).where(_is_it).values(pinned=bindparam("pinned_now", type_=Boolean))
