"""All differences between the databases, and the factory that tells which one a URL names."""

import os
import re
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit

from sqlalchemy import StaticPool
from sqlalchemy.ext.asyncio import AsyncEngine

from workflows_mcp.documents import document
from workflows_mcp.errors import StoreConfigurationError
from workflows_mcp.persistence.dialects.base import Dialect
from workflows_mcp.persistence.dialects.errors import (
    BrokenBaseError,
    Failure,
    RowsDroppedError,
    RowsHeldError,
    RowsLockedError,
    RowsThereError,
)
from workflows_mcp.persistence.dialects.fencing import FencedRow, are_fenced, fenced
from workflows_mcp.persistence.dialects.held import Compiled, HeldConnection, Row
from workflows_mcp.persistence.dialects.passwords import Ask, Password, asking, from_settings
from workflows_mcp.persistence.dialects.postgresql_url import names_password
from workflows_mcp.persistence.dialects.thread import Then
from workflows_mcp.settings import MEMORY_URL, Settings

__all__ = [
    "BrokenBaseError",
    "Compiled",
    "Dialect",
    "Failure",
    "FencedRow",
    "HeldConnection",
    "Password",
    "Row",
    "RowsDroppedError",
    "RowsHeldError",
    "RowsLockedError",
    "RowsThereError",
    "Then",
    "are_fenced",
    "dialect_for",
    "fenced",
    "has_schemas",
]

_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+._-]*)://")

_LOST_SCHEME = re.compile(
    r"[\s\"']*(?:postgres(?:ql)?|sqlite3?|mysql|mariadb|jdbc|memory)(?:\+\w+)?\s*(?:[:;]|//|/[^:@]*:.*@)"
    r"|[^/.~].*://"  # behind something else
    r"|:?//[^/]*:[^/]*@|://"
    r"|[^/.~:@][^/:@]*:.*@"
    r"|[^/.~].*\bpassword\s*=",
    re.IGNORECASE | re.DOTALL,
)
"""How a path begins that was meant for a URL, or for the words of a connection: it may hold a password."""

_OPTIONS_OF_PATH = re.compile(r"\?\w+=")

_STRAY_KEY = re.compile(r"[;&,\s]\s*\w+=")
"""A key of a URL's query that does not stand behind its question mark."""

_HOST = re.compile(r"(?:[^\s:@/\[\];&=]*|\[[0-9A-Fa-f:.%\w]+\])(?::(?P<port>\d{0,5}))?")
_LARGEST_PORT = 65535
_KEY = re.compile(r"[A-Za-z_]+")

_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")

_UNSAFE_KEYS = frozenset({"immutable", "nolock", "vfs"})
"""Options of a SQLite URI with which it no longer looks after its locks."""

_SERVERS = {"postgresql", "postgres", "postgresql+asyncpg"}

_KNOWN = "a file's path, sqlite:///path, postgresql://user@host/database or memory://"


def dialect_for(
    url: str | os.PathLike[str] | AsyncEngine, settings: Settings | None = None, password: Password | None = None
) -> Dialect:
    """The dialect of a database.

    Args:
        url: A SQLite file's path, as a text or as a `Path`, a `sqlite:` or `postgresql:` URL, or an engine for one of
            the two.
        settings: Say in which schema of a PostgreSQL database the tables are, and who gives its password, where the URL
            does not; None: the URL alone does.
        password: Gives the password instead, for each connection.

    Raises:
        StoreConfigurationError: It names no database that is supported. The message shows no password.
    """
    schema = None if settings is None else settings.database_schema
    if isinstance(url, AsyncEngine):
        if password is not None:
            raise StoreConfigurationError("an engine connects as its creator made it: `password` goes with a URL")
        return _dialect_of_engine(url, schema)
    url = _text_of(url)
    if not url.strip():
        raise StoreConfigurationError(f"no database is named; give {_KNOWN}")
    if "\0" in url:
        raise StoreConfigurationError("the database URL holds U+0000")
    found = _SCHEME.match(url)
    if found is None:
        return _sqlite(_checked_path(url), schema, password)
    scheme, rest = found["scheme"].lower(), url[found.end() :]
    if scheme in {"sqlite", "sqlite+aiosqlite"}:
        return _sqlite(_path_of(rest), schema, password)
    if scheme in _SERVERS:
        parts = _split(url)
        return _postgresql(parts, schema, _asked(parts, settings, password))
    if f"{scheme}://" == MEMORY_URL:
        raise StoreConfigurationError(
            "memory:// names no database; use InMemoryCheckpointStore or create_checkpoint_store('memory://')"
        )
    raise StoreConfigurationError(f"the scheme {scheme!r} is not supported; give {_KNOWN}")


def has_schemas(url: str) -> bool:
    """Whether a URL's scheme is that of a database that has schemas, whatever else may be wrong with it."""
    found = _SCHEME.match(url)
    return found is not None and found["scheme"].lower() in _SERVERS


def _text_of(url: object) -> str:
    """The text of a URL or a path. What else there is, is not shown: bytes may hold a password."""
    found = os.fspath(url) if isinstance(url, os.PathLike) else url
    if isinstance(found, str):
        return found
    raise StoreConfigurationError(
        f"a database is named by a text or a Path, not by {type(found).__name__}; give {_KNOWN}"
    )


# Each is loaded when it is needed: a command line on one database starts without the other one's driver.


def _sqlite(path: Path, schema: str | None, password: Password | None = None) -> Dialect:
    from workflows_mcp.persistence.dialects.sqlite import SQLiteDialect

    if schema is not None:
        raise StoreConfigurationError(
            f"a SQLite file has no schema {schema!r}; unset WORKFLOWS_DATABASE_SCHEMA, or name the schema in the URL "
            "of the PostgreSQL database that has it: ?schema=NAME"
        )
    if password is not None:
        raise StoreConfigurationError("a SQLite file has no password; leave out `password`")
    return SQLiteDialect(path)


def _postgresql(url: SplitResult, schema: str | None, ask: Ask | None = None) -> Dialect:
    from workflows_mcp.persistence.dialects.postgresql import PostgreSQLDialect

    return PostgreSQLDialect(url, schema, ask)


def _asked(url: SplitResult, settings: Settings | None, password: Password | None) -> Ask | None:
    """Who gives the password; None: the URL, or what the driver finds by itself."""
    if password is not None:
        return asking(password)
    # What names one database comes before what is said of all: another server must not be sent the settings' password.
    return None if settings is None or names_password(url) else from_settings(settings)


def _dialect_of_engine(engine: AsyncEngine, schema: str | None) -> Dialect:
    """The dialect of somebody else's engine: used for statements and errors, never to connect."""
    name, database = engine.url.get_backend_name(), engine.url.database
    if name == "sqlite":
        if (
            isinstance(engine.pool, StaticPool)
            or not database
            or ":memory:" in database
            or "mode=memory" in str(engine.url)
        ):
            raise StoreConfigurationError(
                "an engine for a SQLite database in memory is not supported: its one connection is shared, so that "
                "anybody's rollback takes acknowledged checkpoints along; use InMemoryCheckpointStore, or name a file"
            )
        keys = set(engine.url.query) | {pair.partition("=")[0] for pair in database.partition("?")[2].split("&")}
        if unsafe := sorted(keys & _UNSAFE_KEYS):
            raise StoreConfigurationError(
                f"an engine with {', '.join(unsafe)} in its SQLite URL is not supported: without SQLite's own locks "
                "programs that write at the same time damage the file"
            )
        return _sqlite(Path(database), schema)
    if name == "postgresql":
        # Its creator may have chosen one in SQLAlchemy's own way.
        chosen = schema or engine.get_execution_options().get("schema_translate_map", {}).get(None)
        return _postgresql(urlsplit(f"postgresql://{engine.url.host or ''}/{quote(database or '')}"), chosen)
    raise StoreConfigurationError(f"an engine for {name!r} is not supported, only for SQLite and PostgreSQL")


def _split(url: str) -> SplitResult:
    """The parts of a PostgreSQL URL.

    A password with a character that should have been encoded falls apart into what looks like hosts, a database or
    keys, and would then be shown as such. So all of them must look like what they are, or none is shown.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None  # the parser's message is dropped: it may quote the password
    if (
        parts is not None
        and not parts.fragment
        and parts.netloc.count("@") <= 1  # of several, the driver takes another one for the password's end
        and "@" not in parts.path
        and not _STRAY_KEY.search(parts.path)
    ):
        hosts = parts.netloc.rpartition("@")[2].split(",")
        keys = [pair.partition("=") for pair in parts.query.split("&") if pair]
        if all(map(_is_host, hosts)) and all(_KEY.fullmatch(key) and equals for key, equals, _ in keys):
            return parts
    raise StoreConfigurationError(
        "the PostgreSQL URL cannot be read: it is postgresql://user:password@host:port/database, and in user and "
        "password : / ? # [ ] @ % are percent-encoded; a port is at most 65535, and keys follow a ?, with & between"
    )


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and int(found["port"] or 0) <= _LARGEST_PORT


def _path_of(rest: str) -> Path:
    """The path in what follows `sqlite://`: an empty host, a slash, the path."""
    host, _, path = rest.partition("/")
    if host:
        raise StoreConfigurationError(
            "a SQLite URL has three slashes before a relative path (sqlite:///checkpoints.db), four before an "
            "absolute one"
        )
    if "?" in path:
        raise StoreConfigurationError(f"a SQLite URL takes no ?options; the settings are in {document('settings')}")
    if _ENCODED.search(path):
        raise StoreConfigurationError(
            "a SQLite URL takes no %-encoding, since some read it decoded and some as it stands; name the file as it is"
        )
    if ".." in path.split("/"):
        raise StoreConfigurationError(
            "a SQLite URL takes no '..', lest it lead out of a folder that it seems to be in; name the file without, "
            "or by its plain path"
        )
    return _checked_path(path)


def _checked_path(path: str) -> Path:
    if path.startswith("file:"):
        raise StoreConfigurationError("a SQLite database is named by its plain path, without file:")
    if _LOST_SCHEME.match(path):
        raise StoreConfigurationError(
            "this looks like a URL, but for its beginning, which is postgresql:// or sqlite:///; a file of such a name "
            "is named by its absolute path"
        )
    if _OPTIONS_OF_PATH.search(path):
        raise StoreConfigurationError(
            "a SQLite file's path takes no ?options, and none has a name with ?word= in it; the settings are in "
            f"{document('settings')}"
        )
    if not path or path.startswith(":memory:"):
        raise StoreConfigurationError(
            "a SQLite database in memory is not supported, since its data would be lost with the connection; use "
            "memory:// for a store in memory, or name a file"
        )
    try:
        found = Path(path).expanduser().absolute()
        os.fsencode(found)
    except (RuntimeError, ValueError):  # no such user, or a lone surrogate
        raise StoreConfigurationError(f"{path!r} is no path of a file") from None
    return found
