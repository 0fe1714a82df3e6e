"""A PostgreSQL URL: what it asks of the driver, and how it is shown."""

from urllib.parse import SplitResult, parse_qs, quote, unquote

from workflows_mcp.errors import StoreConfigurationError

__all__ = [
    "IGNORED_KEYS",
    "database_name",
    "describe",
    "names_password",
    "positive_seconds",
    "read_query",
    "without_password",
]

_DRIVER_KEYS = frozenset({
    "application_name", "dbname", "gsslib", "host", "krbsrvname", "options", "passfile", "password", "port",
    "service", "sslcert", "sslcrl", "sslkey", "sslmode", "ssl_max_protocol_version", "ssl_min_protocol_version",
    "sslnegotiation", "sslpassword", "sslrootcert", "target_session_attrs", "user",
})  # fmt: skip
"""Keys of a URL's query that asyncpg reads as libpq does."""

_OWN_KEYS = frozenset({"connect_timeout", "schema"})
"""Keys that are not the driver's to read: what it is to be told, and where the tables are."""

IGNORED_KEYS = frozenset({"channel_binding", "gssencmode"})
"""Keys that hosting services put into their URLs, and that ask for what asyncpg does anyway or cannot do."""


def read_query(url: SplitResult) -> dict[str, str]:
    """The query's keys as asyncpg takes them, and our own.

    Raises:
        StoreConfigurationError: A key is unknown. Values are not shown: one may be a password.
    """
    options: dict[str, str] = {}
    for key, values in parse_qs(url.query, keep_blank_values=True).items():
        if key in IGNORED_KEYS or not any(values):
            continue
        if key == "host":
            # SQLAlchemy repeats `host=a:5432&host=b:5432`; libpq joins with commas.
            options["host"] = ",".join(values)
        elif key == "ssl":
            options["sslmode"] = values[-1]
        elif key in _DRIVER_KEYS or key in _OWN_KEYS:
            options[key] = values[-1]
        else:
            known = ", ".join(sorted(_DRIVER_KEYS | _OWN_KEYS))
            raise StoreConfigurationError(f"the database URL has an unknown key {key!r}; known are: {known}")
    return options


def names_password(url: SplitResult) -> bool:
    """Whether the URL holds a password, or names the file that does."""
    return bool(url.password) or not {"password", "passfile"}.isdisjoint(parse_qs(url.query))


def positive_seconds(key: str, value: str) -> float:
    """A key's value in seconds.

    Raises:
        StoreConfigurationError: It is no positive number.
    """
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise StoreConfigurationError(f"{key} in the database URL must be a positive number of seconds")
    return seconds


def database_name(url: SplitResult, options: dict[str, str]) -> str | None:
    """The database that the URL names; None: the environment or the user's name does."""
    return unquote(url.path.lstrip("/")) or options.get("dbname") or None


def describe(url: SplitResult, options: dict[str, str], schema: str | None) -> str:
    """`PostgreSQL database 'db' at host:5432, schema 'name'`, without user and password."""
    hosts = url.netloc.rpartition("@")[2] or options.get("host", "") or "the default host"
    name = database_name(url, options) or ""
    return f"PostgreSQL database {name!r} at {unquote(hosts)}" + ("" if schema is None else f", schema {schema!r}")


def without_password(url: SplitResult, *, schema: str | None = None) -> str:
    """The URL as it is typed again, without a password that it holds: `PGPASSWORD` or `~/.pgpass` may give that.

    Args:
        url: With all that was given.
        schema: Where the tables are, whoever said so; None: nobody did.
    """
    login, at, hosts = url.netloc.rpartition("@")
    pairs = [
        pair
        for pair in url.query.split("&")
        if pair and (key := pair.partition("=")[0].lower()) != "schema" and "password" not in key
    ]
    query = "&".join(pairs if schema is None else [*pairs, f"schema={quote(schema, safe='')}"])
    # Not by `geturl`, which leaves out the two slashes where they stand before no host.
    return f"{url.scheme}://{login.partition(':')[0]}{at}{hosts}{url.path}{'?' if query else ''}{query}"
