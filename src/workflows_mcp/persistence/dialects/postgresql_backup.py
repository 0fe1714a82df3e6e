"""The commands of PostgreSQL's own programs that back up a database and restore it, to be typed."""

import math
import os
import shlex
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, quote, urlencode

from workflows_mcp.persistence.dialects.postgresql_url import IGNORED_KEYS, database_name, read_query
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
    return database_name(url, read_query(url)) or os.environ.get("PGDATABASE") or "workflows"


def _typed(url: SplitResult, name: str | None = None, schema: str | None = None) -> str:
    """The URL as PostgreSQL's programs take it, of another database of the same server where one is named.

    Of what stands in it twice, libpq believes the query, and the driver the rest. So what the driver does not believe
    is left out, and so are passwords. With a schema it is one for us alone.
    """
    options = {**_of_libpq_alone(url), **read_query(url)}
    login, at, hosts = url.netloc.rpartition("@")
    name = name or database_name(url, options)
    if not hosts and "port" not in options and ":" in options.get("host", ""):
        hosts = quote(options["host"], safe="[]:,")  # in a key, libpq takes no ports
    believed = {"dbname", "schema", *(["host", "port"] if hosts else []), *(["user"] if login else [])}
    query = {key: value for key, value in options.items() if key not in believed and "password" not in key}
    if "connect_timeout" in query:
        query["connect_timeout"] = str(math.ceil(float(query["connect_timeout"])))  # whole seconds
    if schema is not None:
        query["schema"] = schema
    path = "" if name is None else f"/{quote(name, safe='')}"
    # Not by `geturl`, which leaves out the two slashes where they stand before no host.
    words = urlencode(query, quote_via=quote, safe="/:,")
    return f"postgresql://{login.partition(':')[0]}{at}{hosts}{path}{'?' if query else ''}{words}"


def _of_libpq_alone(url: SplitResult) -> dict[str, str]:
    return {key: values[-1] for key, values in parse_qs(url.query).items() if key in IGNORED_KEYS}
