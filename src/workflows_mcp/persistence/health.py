"""Examines a database: whether it can be used, whether it keeps what it acknowledges, and what to do if not.

Nothing is changed, and nothing raises but a bug: what is wrong with a database is what the report is about.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import partial
from typing import Any

from sqlalchemy import Connection, and_, func, literal, not_, or_, select, true

from workflows_mcp.documents import document
from workflows_mcp.engine.commands import command_to_type
from workflows_mcp.engine.filters import CheckpointFilter, Position, position_of
from workflows_mcp.engine.state_json import IMPORTING
from workflows_mcp.errors import (
    CheckpointDecodeError,
    CheckpointKeyError,
    CheckpointStoreError,
    StoreConfigurationError,
    StoreUnavailableError,
)
from workflows_mcp.persistence import lease_statements, listing_statements, statements
from workflows_mcp.persistence.chains import Chains
from workflows_mcp.persistence.checks import Check, Report, Verdict
from workflows_mcp.persistence.deltas import Deltas, Linked, Plains
from workflows_mcp.persistence.dialects import Dialect, Failure, dialect_for
from workflows_mcp.persistence.revisions import HEAD, check_schema
from workflows_mcp.persistence.row_codec import RowCodec, open_codec
from workflows_mcp.persistence.rows import base_of, metadata_of
from workflows_mcp.persistence.schema import find_differences
from workflows_mcp.persistence.seals import look_at_seals
from workflows_mcp.settings import Settings, load_settings

__all__ = ["Check", "Verdict", "examine"]

_SAMPLE = 100
_SAMPLE_SECONDS = 2.0
"""How many payloads are read, the newest ones, and for how long at the most, when not all of them are."""

_PAGE = 500

_MOST_NAMED = 20
"""The most damaged checkpoints that are named."""

_LONGEST_NAME = 100
"""How much of an id is shown. Most are far shorter, and one that no store has written may be endless."""

_SHORT_LEASE_SECONDS = 5.0

_C = statements.TABLE.c


class _Trouble(Enum):
    """Why checkpoints cannot be loaded. Those that lack nothing but a key or a seal are not damaged."""

    DAMAGED = "cannot be read"
    SEALED = "cannot be opened with the keys of this process"
    PLAIN = "cannot be loaded without a seal, which WORKFLOWS_ENCRYPTION requires"


_ADVICE = {
    _Trouble.DAMAGED: f"what is wrong with one: workflows-mcp checkpoints show ID; put it back ({IMPORTING}), "
    "restore a backup, or delete it and what needs it",
    _Trouble.SEALED: (
        f"add the keys that they are sealed with: they are not known to be damaged ({document('encryption')})"
    ),
    _Trouble.PLAIN: "if they are older than your keys, seal them: WORKFLOWS_ENCRYPTION=auto workflows-mcp checkpoints "
    "rekey",
}


async def examine(
    url: str, settings: Settings | None = None, *, deep: bool = False, options: Sequence[str] = ()
) -> list[Check]:
    """Look at a database, and at the settings that it would be used with.

    The database is only read. Each of its answers is waited for no longer than the deadline of the settings.

    Args:
        url: A SQLite file's path, or a `sqlite:///` or `postgresql://` URL.
        settings: Read from the environment when None; their URL is not used.
        deep: Whether to read all that is stored, however long it takes: every page, and every payload.
        options: Of the commands that are advised, so that these lead to the same database.

    Returns:
        What was found; never raises an error of the database's.
    """
    report = Report()
    try:
        settings = settings if settings is not None else load_settings()
        dialect = dialect_for(url, settings)
    except StoreConfigurationError as error:
        report.error("database", error)
        return report.checks
    report.ok("database", dialect.description)
    codec = _codec(settings, report)
    look = partial(_look, dialect=dialect, seconds=settings.deadline_seconds, deep=deep, codec=codec, options=options)
    try:
        await dialect.examine(settings, report, look, deep=deep)
    except Exception as error:  # noqa: BLE001 - a bug is raised again
        report.error("answers", _explain(dialect, error).error)
    _look_at_settings(settings, report)
    return report.checks


def _codec(settings: Settings, report: Report) -> RowCodec:
    """The codec of the settings; one without keys when theirs cannot be had, which is told."""
    try:
        return open_codec(settings)
    except StoreConfigurationError as error:
        report.error("keys", error)
        return RowCodec()


def _explain(dialect: Dialect, error: Exception) -> Failure:
    """What an error means. Raises it again when it is none of the database's."""
    failure = Failure(error) if isinstance(error, CheckpointStoreError) else dialect.explain(error)
    if failure is None:
        raise error
    return failure


def _look(
    connection: Connection,
    report: Report,
    *,
    dialect: Dialect,
    seconds: float,
    deep: bool,
    codec: RowCodec,
    options: Sequence[str],
) -> None:
    """Look at what is the same in every database. What cannot be read is a finding too, and the rest goes on."""
    steps: dict[str, Callable[[], None]] = {
        "table": lambda: _look_at_table(connection, report, dialect),
        "checkpoints": lambda: _count(connection, report),
        "deltas": lambda: _look_at_deltas(connection, report),
        "runs": lambda: _look_at_runs(connection, report, options),
        "encryption": lambda: look_at_seals(connection, report, codec),
        # Half of the time that there is, so that none is taken for late which is but the last of many.
        "payloads": lambda: _look_at_payloads(
            connection,
            report,
            codec,
            Chains(dialect, codec, Deltas(0)),
            None if deep else min(_SAMPLE_SECONDS, seconds / 2),
            deep=deep,
        ),
    }
    most = None if deep else seconds
    try:
        with dialect.limited(connection, most):
            check_schema(connection, dialect)
    except Exception as error:  # noqa: BLE001 - a bug is raised again
        report.error("revision", _explain(dialect, error).error)
        return
    report.ok("revision", f"{HEAD}, the newest")
    for name, step in steps.items():
        try:
            with dialect.limited(connection, most):
                step()
        except Exception as error:  # noqa: BLE001 - a bug is raised again
            failure = _explain(dialect, error)
            if failure.is_late and _answers(connection, dialect):
                report.notice(
                    name,
                    f"not known: it takes longer than {seconds:g} s",
                    "raise WORKFLOWS_DEADLINE_SECONDS, if it is to be waited for",
                )
                continue
            report.error(name, failure.error)
            if isinstance(failure.error, StoreUnavailableError):
                return  # each further question would be waited for as long


def _answers(connection: Connection, dialect: Dialect) -> bool:
    """Whether it was the question that took so long: a server that is frozen does not answer the shortest one."""
    try:
        connection.rollback()  # a connection that was given up with its query is made anew after that
        connection.scalar(select(literal(1)))
    except Exception as error:  # noqa: BLE001 - a bug is raised again
        _explain(dialect, error)
        return False
    return True


def _look_at_table(connection: Connection, report: Report, dialect: Dialect) -> None:
    differences = find_differences(connection, dialect)
    if differences:
        report.problem(
            "table",
            f"it was changed by other means than the revisions ({', '.join(differences)})",
            f"restore a backup in its place ({document('operations')}), or copy the checkpoints into a new database",
        )
    else:
        report.ok("table", "as the revisions make it")


def _count(connection: Connection, report: Report) -> None:
    total = connection.scalar(select(func.count()).select_from(statements.TABLE)) or 0
    waiting = connection.scalar(select(func.count()).where(_C.is_paused == true())) or 0
    report.ok("checkpoints", f"{total:,}, of which {waiting:,} wait for an answer")


def _look_at_deltas(connection: Connection, report: Report) -> None:
    """Look for deltas without their bases, which a database with its foreign keys on never has."""
    base = statements.TABLE.alias("base")
    is_its_base = and_(base.c.checkpoint_id == _C.base_checkpoint_id, base.c.state_digest == _C.base_digest)
    # By their encoding, too: one that names no base any more can be unpacked by nothing.
    is_delta = or_(_C.base_checkpoint_id.is_not(None), _C.encoding.endswith("-delta"))
    total = connection.scalar(select(func.count()).where(is_delta)) or 0
    alone = select(_C.checkpoint_id).where(is_delta, not_(select(literal(1)).where(is_its_base).exists()))
    ids: list[object] = list(connection.scalars(alone))
    if ids:
        found = (
            f"of {total:,} checkpoints that are stored as deltas, {len(ids):,} lack the one that they are a delta of"
        )
        report.problem("deltas", f"{found}: {_listed(ids)}", _ADVICE[_Trouble.DAMAGED])
    else:
        report.ok("deltas", f"{total:,} checkpoints are stored as deltas of others, which are all there")


def _look_at_runs(connection: Connection, report: Report, options: Sequence[str]) -> None:
    abandoned = len(connection.execute(lease_statements.abandoned(None).statement).all())
    if abandoned:
        report.notice(
            "runs",
            f"{abandoned:,} {'run is' if abandoned == 1 else 'runs are'} without a process: it was stopped or killed",
            f"go on with all of them: {command_to_type(['recover'], options=options)}",
        )
    else:
        report.ok("runs", "none was left behind by its process")


def _look_at_payloads(
    connection: Connection, report: Report, codec: RowCodec, chains: Chains, seconds: float | None, *, deep: bool
) -> None:
    """Load checkpoints, one at a time, as any reader would."""
    end = float("inf") if seconds is None else time.monotonic() + seconds
    troubled: dict[_Trouble, list[object]] = {}
    culprits: Counter[_Trouble] = Counter()
    links: Counter[str] = Counter()
    plains = Plains()
    read = 0
    for checkpoint_id in _ids(connection, None if deep else _SAMPLE):
        read += 1
        trouble = _trouble_with(connection, checkpoint_id, codec, chains, plains)
        if trouble is not None:
            kind, link = trouble
            ids = troubled.setdefault(kind, [])
            # Those to blame first, and the newest of them: all else is mended with these.
            ids.insert(culprits[kind], checkpoint_id) if link is None else ids.append(checkpoint_id)
            culprits[kind] += link is None
            links.update([] if link is None else [link])
        if time.monotonic() >= end:
            break
    what = f"all {read:,}" if deep else f"the newest {read:,}"
    if troubled:
        kinds = [(trouble, troubled[trouble]) for trouble in _Trouble if trouble in troubled]
        told = "; ".join(f"{len(ids):,} {trouble.value}: {_listed(ids)}" for trouble, ids in kinds)
        if links:
            needed = [f"{_named(link)} by {count:,}" for link, count in links.most_common(_MOST_NAMED)]
            told += f"; {links.total():,} of these are deltas, and need another one that is not to be read: "
            told += ", ".join(needed) + (f" and {len(links) - _MOST_NAMED:,} more" if len(links) > _MOST_NAMED else "")
        advice = [_ADVICE[trouble] for trouble, _ in kinds]
        if links and _Trouble.DAMAGED in troubled:
            first = _named(links.most_common(1)[0][0])
            advice.insert(0, f"begin with {first}, which mends those that need it")
        report.problem("payloads", f"of {what}, {told}", "; ".join(advice))
    else:
        report.ok("payloads", f"{what} can be read" + ("" if deep else "; --deep reads them all"))


def _listed(ids: list[object]) -> str:
    named = ", ".join(map(_named, ids[:_MOST_NAMED]))
    return f"{named} and {len(ids) - _MOST_NAMED:,} more" if len(ids) > _MOST_NAMED else named


def _named(checkpoint_id: object) -> str:
    """An id as it is shown; one that no store has written may be of any type and length."""
    shown = repr(checkpoint_id)
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[:_LONGEST_NAME]}…"


def _trouble_with(
    connection: Connection, checkpoint_id: str, codec: RowCodec, chains: Chains, plains: Plains
) -> tuple[_Trouble, str | None] | None:
    """Why a checkpoint cannot be loaded, and the other one that it needs and that is to blame; None: it can."""
    query = codec.loading.one(checkpoint_id)
    try:
        row: Sequence[Any] | None = connection.execute(query.statement, query.values).one_or_none()
        if row is None:  # it was deleted meanwhile
            return None
        if base_of(row) is not None:
            row = _completed(connection, row, chains, plains)
        for one in (row, *(row.links if isinstance(row, Linked) else ())):
            if codec.refuses(one):
                return _Trouble.PLAIN, None if one is row else one[0]
        codec.state(row)
    except CheckpointDecodeError as error:
        return _Trouble.SEALED if isinstance(error, CheckpointKeyError) else _Trouble.DAMAGED, error.link
    except (TypeError, ValueError):  # a column, the id too, may hold what it should not
        return _Trouble.DAMAGED, None
    return None


def _completed(connection: Connection, row: Sequence[Any], chains: Chains, plains: Plains) -> Sequence[Any]:
    """The row of a delta together with its bases, as far as they are there."""
    query = chains.bases([row[0]])  # of one moment
    every = connection.execute(query.statement, query.values).all()
    found: list[Sequence[Any]] = [one for one in every if one[0] == row[0]]
    return chains.link(found, every, plains, at_any_rate=True).get(row[0], row)


def _ids(connection: Connection, limit: int | None) -> Iterator[str]:
    """Ids of checkpoints, the newest first; page by page, since all of them may be too many to hold."""
    last: Position | None = None
    size = limit or _PAGE
    while True:
        query = listing_statements.listing(CheckpointFilter(), limit=size, before=last)
        page = [metadata_of(row) for row in connection.execute(query.statement, query.values).all()]
        for metadata in page:
            yield metadata.checkpoint_id
        if limit is not None or len(page) < size:
            return
        last = position_of(page[-1])


def _look_at_settings(settings: Settings, report: Report) -> None:
    """Tell which settings keep less than the defaults do. What a database makes of the others, its dialect tells."""
    weaker = {
        "WORKFLOWS_KEEP_PAUSED is off: retention deletes what waits for an answer": (
            not settings.keep_paused and settings.auto_cleanup
        ),
        f"WORKFLOWS_LEASE_SECONDS is {settings.lease_seconds:g}: a process that stands still for so long loses its "
        "runs": settings.lease_seconds < _SHORT_LEASE_SECONDS,
        "WORKFLOWS_AUTO_UPGRADE is on: any command may change the schema, and older versions then refuse it; processes "
        "of theirs that still run, retention too, may lose states unless they were stopped before": (
            settings.auto_upgrade
        ),
    }
    found = [text for text, applies in weaker.items() if applies]
    if found:
        report.notice("settings", "; ".join(found), "unset them unless that is what you want")
    else:
        report.ok("settings", "nothing that is kept less safely than by default")
