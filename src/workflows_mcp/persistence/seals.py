"""Which seals are on a database's checkpoints."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from workflows_mcp.documents import document
from workflows_mcp.errors import CheckpointStoreError, StoreConfigurationError
from workflows_mcp.persistence.checks import Report
from workflows_mcp.persistence.dialects import Dialect
from workflows_mcp.persistence.keys import KeyName
from workflows_mcp.persistence.models import CheckpointRecord
from workflows_mcp.persistence.revisions import check_schema
from workflows_mcp.persistence.row_codec import RowCodec
from workflows_mcp.persistence.row_seal import key_of

__all__ = ["BY_ENCODING", "Seals", "check_database", "look_at_seals", "seals_of"]

_log = logging.getLogger(__name__)

C = CheckpointRecord

_LOOKED_AT = 100
"""A store that begins looks at the seals of so many checkpoints, the newest ones; at all of them it would take long."""

_NEWEST = select(C.encoding).order_by(C.created_at.desc(), C.checkpoint_id.desc()).limit(_LOOKED_AT)

BY_ENCODING = select(C.encoding, func.count()).group_by(C.encoding)
"""How many checkpoints there are of each encoding: one pass, in which no payload is read."""


class Seals(NamedTuple):
    """How many checkpoints are sealed with what.

    Attributes:
        plain: How many are not sealed.
        by_key: How many are sealed with each key, by its name.
    """

    plain: int
    by_key: dict[KeyName, int]

    @property
    def total(self) -> int:
        """How many there are."""
        return self.plain + sum(self.by_key.values())


def seals_of(rows: Iterable[Sequence[Any]]) -> Seals:
    """What `BY_ENCODING` found."""
    plain, by_key = 0, dict[KeyName, int]()
    for encoding, count in rows:
        name = key_of(encoding)
        if name is None:
            plain += count
        else:
            by_key[name] = by_key.get(name, 0) + count
    return Seals(plain, dict(sorted(by_key.items())))


def check_database(connection: Connection, dialect: Dialect, *, codec: RowCodec) -> CheckpointStoreError | None:
    """Look at a database before a store uses it.

    Returns:
        Why nothing may be saved there: it would stand in plain text beside what is sealed. None: it may.

    Raises:
        CheckpointStoreError: It has no schema, or another one than this version's.
    """
    check_schema(connection, dialect)
    if codec.keys is None and codec.may_save_beside_sealed:
        return None
    found = {key_of(encoding) for (encoding,) in connection.execute(_NEWEST)}
    unknown = sorted(name for name in found if name is not None and not _is_known(name, codec))
    if not unknown:
        return None
    named = ", ".join(_shown(name, codec) for name in unknown)
    if codec.keys is not None:
        _log.warning(
            "%s: some of the newest checkpoints are sealed with %s, which is not in %s, so that this process cannot "
            "load them",
            dialect.description,
            named,
            codec.keys.source,
        )
        return None
    return StoreConfigurationError(
        f"the newest checkpoints of {dialect.description} are sealed with the key {named}, and this process has no "
        "keys, so that what it saves would stand there in plain text: set WORKFLOWS_ENCRYPTION_KEYS, _KEY_FILE or "
        "_KEY_COMMAND; or set WORKFLOWS_ENCRYPTION to off, if plain text is what you want"
    )


def _is_known(name: KeyName, codec: RowCodec) -> bool:
    return codec.keys is not None and codec.keys.find(name) is not None


def _shown(name: KeyName, codec: RowCodec) -> str:
    """What people call a key, and which one it is where they call another one so."""
    has_another = codec.keys is not None and codec.keys.has_another(name)
    return f"another {name.key_id!r} (fingerprint {name.fingerprint})" if has_another else repr(name.key_id)


def look_at_seals(connection: Connection, report: Report, codec: RowCodec) -> None:
    """Report how many checkpoints are sealed, and whether all of them can be opened with the keys of this process."""
    seals = seals_of((encoding, count) for encoding, count in connection.execute(BY_ENCODING))
    unknown = {name: count for name, count in seals.by_key.items() if not _is_known(name, codec)}
    if unknown:
        named = ", ".join(f"{count:,} with {_shown(name, codec)}" for name, count in unknown.items())
        report.problem(
            "encryption",
            f"of {seals.total:,}, some are sealed with keys that this process does not have: {named}",
            f"add them to WORKFLOWS_ENCRYPTION_KEYS, _KEY_FILE or _KEY_COMMAND ({document('encryption')})",
        )
    elif codec.keys is None:
        report.ok("encryption", "there are no keys, and nothing is sealed")
    elif not codec.seals:
        sealed = seals.total - seals.plain
        report.notice(
            "encryption",
            f"off: what is saved is plain; {sealed:,} of {seals.total:,} are still sealed",
            "take their seals off: workflows-mcp checkpoints rekey --decrypt" if sealed else "unset the keys",
        )
    elif seals.plain:
        report.notice(
            "encryption",
            f"{seals.plain:,} of {seals.total:,} are in plain text",
            "seal them: workflows-mcp checkpoints rekey",
        )
    else:
        old = seals.total - seals.by_key.get(codec.keys.newest.name, 0)
        more = f", {old:,} of them with an older key than {codec.keys.newest.key_id!r}" if old else ""
        report.ok("encryption", f"all {seals.total:,} are sealed{more}")
