"""What PostgreSQL's errors mean, and the driver's where the server says nothing."""

import asyncpg
from sqlalchemy.connectors.asyncio import AsyncAdapt_Error
from sqlalchemy.exc import DBAPIError

from workflows_mcp.errors import (
    CheckpointStoreError,
    SchemaOutOfDateError,
    StoreConfigurationError,
    StoreFullError,
    StoreUnavailableError,
)
from workflows_mcp.persistence.dialects.errors import (
    BrokenBaseError,
    Failure,
    RowsDroppedError,
    RowsHeldError,
    RowsThereError,
)
from workflows_mcp.persistence.dialects.postgresql_hosts import PoolerRefusedError
from workflows_mcp.persistence.dialects.postgresql_login import LoginRefusedError
from workflows_mcp.persistence.dialects.postgresql_tls import explain_tls

__all__ = ["explain", "root_of"]

_TAKEN_BACK = "22012"
"""The division by zero with which a fenced save takes itself back; see `postgresql_saving.py`."""

_ENDED = "57014"
"""A statement that took longer than `statement_timeout`, or that somebody cancelled."""

_REPEATS_TAKEN_BACK = 2
"""Who was too late to see what somebody else saved or deleted sees it the next time. What a trigger drops, it drops
again."""

_PRIMARY_KEY = "pk_checkpoints"
"""What says that an id is there; so does the next. Any other unique index is somebody else's, and tells nothing."""

_BASE_KEY = "uq_checkpoints_checkpoint_id_state_digest"
"""What deltas refer to. `ON CONFLICT` watches the primary key alone: of those who insert a new id with the same content
at the same moment, some meet this one, and find the row the next time."""

_DELTAS_KEY = "fk_checkpoints_base_checkpoint_id_base_digest_checkpoints"
"""What keeps a delta's base. Any other foreign key is somebody else's, and what it keeps is not made whole."""

_TABLE = "checkpoints"

_REPEATS_AT_ONE_ID = 3

_KEYS = (_PRIMARY_KEY, _BASE_KEY)

_LOST_STATEMENT = (
    "mixed up prepared statements, as a pooler does that hands out another server connection for each transaction; set "
    "WORKFLOWS_PGBOUNCER=true"
)

_MEANINGS: tuple[tuple[str, type[CheckpointStoreError], str], ...] = (
    ("08", StoreUnavailableError, "lost the connection; try again"),
    # By no value that was sent: a fenced save says so when it finds at its end that it must not have begun.
    (_TAKEN_BACK, RowsDroppedError, "did not write all of a commit; do triggers or rules of its table drop rows?"),
    ("25006", StoreUnavailableError, "is read-only, as a standby is; try again"),
    ("28P01", StoreConfigurationError, "refused the login; check user and password"),
    (
        "28",
        StoreConfigurationError,
        (
            "refused the login; check user, password or token, and pg_hba.conf, which may ask for TLS (sslmode) or a "
            "client's certificate"
        ),
    ),
    ("26000", StoreConfigurationError, _LOST_STATEMENT),
    ("42P05", StoreConfigurationError, _LOST_STATEMENT),
    ("3D", StoreConfigurationError, "does not exist; create it, or check the URL"),
    ("3F", StoreConfigurationError, "has no such schema; check WORKFLOWS_DATABASE_SCHEMA, or search_path"),
    ("40001", StoreUnavailableError, "could not serialize the change; try again"),
    ("40P01", StoreUnavailableError, "found a deadlock; try again"),
    (
        "42501",
        StoreConfigurationError,
        (
            "does not permit it to this user; the owner of the tables changes the schema, and grants to others what "
            "`workflows-mcp db grants` prints"
        ),
    ),
    ("42P01", SchemaOutOfDateError, "lacks the checkpoints table"),
    ("42703", SchemaOutOfDateError, "lacks a column of the checkpoints table"),
    ("53100", StoreFullError, "has no space left; free some, then repeat the call"),
    ("53300", StoreUnavailableError, "takes no more connections; try again, or lower WORKFLOWS_POOL_SIZE"),
    ("53", StoreUnavailableError, "is out of resources; try again later"),
    ("55P03", StoreUnavailableError, "holds a lock for too long; try again"),
    (_ENDED, StoreUnavailableError, "took too long, so the call was ended; try again"),
    ("57P", StoreUnavailableError, "is stopping or starting; try again"),
)
"""What SQLSTATEs mean to a caller: the first one whose beginning fits."""

_RETRIABLE = ("08", _TAKEN_BACK, "25006", "40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03")


def explain(error: Exception, description: str, upgrade_command: str) -> Failure | None:
    """Say what an error means, by SQLSTATE, and by type where the server said nothing; None: it is none of its.

    Args:
        error: The driver's, or SQLAlchemy's around it.
        description: Names the database in messages.
        upgrade_command: What a user runs when the table is not as it should be.
    """
    cause = root_of(error)
    if isinstance(cause, asyncpg.exceptions.InvalidCachedStatementError):
        # Somebody has changed the table's columns. SQLAlchemy now forgets the statements that it had prepared, on
        # all connections, and so the second attempt succeeds.
        changed = StoreUnavailableError(
            f"the checkpoints table of {description} was changed by another process; try again"
        )
        return Failure(changed, retriable=True, most_repeats=1)
    if isinstance(cause, asyncpg.exceptions.ForeignKeyViolationError):
        return _explain_key(cause, description)
    if isinstance(cause, asyncpg.exceptions.UniqueViolationError) and cause.constraint_name in _KEYS:
        there = RowsThereError(f"{description} holds such a row already ({cause.sqlstate})")
        return Failure(there, retriable=cause.constraint_name == _BASE_KEY, most_repeats=_REPEATS_AT_ONE_ID)
    state = getattr(cause, "sqlstate", None)
    if isinstance(state, str):
        return _explain_state(state, description, upgrade_command)
    # First, since a certificate that is refused is a ValueError and an OSError, too.
    found = (
        explain_tls(cause, description) or _explain_pooler(cause, description) or _explain_silence(cause, description)
    )
    if found is None and isinstance(error, DBAPIError):
        return Failure(CheckpointStoreError(f"{description} refused a statement ({type(cause).__name__})"))
    return found


def _explain_key(cause: asyncpg.exceptions.ForeignKeyViolationError, description: str) -> Failure:
    told = f"{description} holds rows that refer to what was to go; try again ({cause.sqlstate})"
    if cause.constraint_name == _DELTAS_KEY:
        return Failure(BrokenBaseError(told))
    if cause.table_name in {None, _TABLE}:  # our rows are to refer to somebody else's
        return Failure(CheckpointStoreError(f"{description} refused a statement ({cause.sqlstate})"))
    return Failure(RowsHeldError.by(description, (cause.table_name,)))


def root_of(error: BaseException) -> BaseException:
    """The driver's own error beneath SQLAlchemy's."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    # SQLAlchemy's stand-in for it, which comes bare when a connection is opened outside of its engine's own calls.
    if isinstance(error, AsyncAdapt_Error) and error.__cause__ is not None:
        return error.__cause__
    return error


def _explain_pooler(cause: BaseException, description: str) -> Failure | None:
    if isinstance(cause, PoolerRefusedError):
        told = f"{description} is behind a pooler such as PgBouncer, which refuses settings for the server"
        return Failure(StoreConfigurationError(f"{told}; set WORKFLOWS_PGBOUNCER=true"))
    if isinstance(cause, LoginRefusedError):
        told = f"a pooler such as PgBouncer refuses the connection to {description}"
        reasons = "the server behind it is down, or user, password or database are wrong, as its log tells"
        return Failure(StoreUnavailableError(f"{told}: {reasons}; try again"), retriable=True)
    return None


def _explain_silence(cause: BaseException, description: str) -> Failure | None:
    if isinstance(cause, asyncpg.exceptions.ClientConfigurationError | ValueError):
        return Failure(StoreConfigurationError(f"the URL of {description} holds a setting that the driver refuses"))
    if isinstance(cause, asyncpg.exceptions.TargetServerAttributeNotMatched):
        return Failure(
            StoreUnavailableError(
                f"no host of {description} is of the kind that target_session_attrs names; try again"
            ),
            retriable=True,
        )
    if isinstance(cause, OSError | TimeoutError):
        reason = getattr(cause, "strerror", None) or "timed out"
        return Failure(
            StoreUnavailableError(f"{description} does not answer ({reason}); check that it runs and can be reached"),
            retriable=True,
            is_late=isinstance(cause, TimeoutError),
        )
    if isinstance(cause, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return Failure(StoreUnavailableError(f"the connection to {description} was lost; try again"), retriable=True)
    return None


def _explain_state(state: str, description: str, upgrade_command: str) -> Failure:
    for beginning, kind, meaning in _MEANINGS:
        if state.startswith(beginning):
            next_step = f"; run: {upgrade_command}" if kind is SchemaOutOfDateError else ""
            error = kind(f"{description} {meaning} ({state}){next_step}")
            most_repeats = _REPEATS_TAKEN_BACK if state == _TAKEN_BACK else None
            return Failure(
                error,
                retriable=state.startswith(_RETRIABLE),
                most_repeats=most_repeats,
                is_late=state == _ENDED,
            )
    return Failure(CheckpointStoreError(f"{description} refused a statement ({state})"))
