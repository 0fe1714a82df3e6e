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
    dump = ["pg_dump", "--format=custom", f"--file={_as_argument(file)}", *tables, f"--dbname={_typed(url)}"]
    return ["umask 077", shlex.join(dump)]


def restore_commands(url: SplitResult, file: Path, schema: str | None) -> list[str]:
    """See `Dialect.restore_commands`: into a new database, so that the old one stays until all is well.

    The last line, for a schema, is a comment of the shell's: what it says holds for some only.
    """
    restored = f"{_name(url)}_restored"
    new = _typed(url, restored)
    ours = _typed(url, restored, schema)
    into = ["pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", f"--dbname={new}"]
    # A dump of single tables does not hold the schema that they are in.
    made = [] if schema is None else [["psql", f"--dbname={new}", f"--command={_create(schema)}"]]
    commands = [
        ["createdb", f"--maintenance-db={_typed(url, 'postgres')}", restored],
        *made,
        [*into, _as_argument(file)],
        ["workflows-mcp", "doctor", "--deep", "--database-url", ours],
    ]
    typed = [shlex.join(command) for command in commands]
    if schema is not None:
        # Nor what roles may do in it. Which ones there are is not known here; typed as it is, this does nothing.
        grants = ["workflows-mcp", "db", "grants", "--owner", "OWNER", "--app", "APP", "--database-url", ours]
        into_psql = ["psql", "-v", "ON_ERROR_STOP=1", f"--dbname={new}"]
        typed.append(f"# where roles have rights of their own: {shlex.join(grants)} | {shlex.join(into_psql)}")
    return typed


def _create(schema: str) -> str:
    return f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)}"  # a new database has one called public


def _as_argument(file: Path) -> str:
    """A path that is not taken for an option, or for the standard input."""
    return f"./{file}" if str(file).startswith("-") else str(file)


def _name(url: SplitResult) -> str:
    return unquote(url.path.lstrip("/")) or "workflows"


def _typed(url: SplitResult, name: str | None = None, schema: str | None = None) -> str:
    """The URL as PostgreSQL's programs take it, of another database of the same server where one is named.

    With a schema it is one for us alone.
    """
    url = url._replace(scheme="postgresql")
    return without_password(url if name is None else url._replace(path=f"/{quote(name)}"), schema=schema)
