"""The commands of PostgreSQL's own programs that back up a database and restore it, to be typed."""

import shlex
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote

from workflows_mcp.persistence.dialects.postgresql_url import without_password
from workflows_mcp.persistence.dialects.quoting import identifier
from workflows_mcp.persistence.dialects.types import VERSION_TABLE

__all__ = ["backup_commands", "restore_commands"]

_TABLES = ("checkpoints", VERSION_TABLE)


def backup_commands(url: SplitResult, file: Path, schema: str | None) -> list[str]:
    """See `Dialect.backup_commands`. Without a password: `PGPASSWORD` or `~/.pgpass` may give that."""
    # pg_dump takes a name for a pattern in small letters, but not within quotes.
    within = "" if schema is None else f"{identifier(schema)}."
    tables = [f"--table={within}{table}" for table in _TABLES]
    dump = ["pg_dump", "--format=custom", f"--file={file}", *tables, f"--dbname={_typed(url)}"]
    return ["umask 077", shlex.join(dump)]


def restore_commands(url: SplitResult, file: Path, schema: str | None) -> list[str]:
    """See `Dialect.restore_commands`: into a new database, so that the old one stays until all is well."""
    restored = f"{_name(url)}_restored"
    new = _typed(url, restored)
    into = ["pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", f"--dbname={new}", str(file)]
    # A dump of single tables does not hold the schema that they are in.
    made = [] if schema is None else [["psql", f"--dbname={new}", f"--command=CREATE SCHEMA {identifier(schema)}"]]
    commands = [
        ["createdb", f"--maintenance-db={_typed(url, 'postgres')}", restored],
        *made,
        into,
        ["workflows-mcp", "doctor", "--deep", "--database-url", _typed(url, restored, schema)],
    ]
    return [shlex.join(command) for command in commands]


def _name(url: SplitResult) -> str:
    return unquote(url.path.lstrip("/")) or "workflows"


def _typed(url: SplitResult, name: str | None = None, schema: str | None = None) -> str:
    """The URL as PostgreSQL's programs take it, of another database of the same server where one is named.

    With a schema it is one for us alone.
    """
    url = url._replace(scheme="postgresql")
    return without_password(url if name is None else url._replace(path=f"/{quote(name)}"), schema=schema)
