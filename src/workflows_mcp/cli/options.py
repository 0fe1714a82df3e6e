"""The options that every command takes, and what they come to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from cyclopts import Parameter

from workflows_mcp.cli.failures import UsageError
from workflows_mcp.cli.log import configure_logging
from workflows_mcp.engine.commands import command_to_type

if TYPE_CHECKING:
    from workflows_mcp.settings import Settings

__all__ = ["DEFAULT_OPTIONS", "Options", "check_id", "command_line"]

_SECRET_KEYS = frozenset({"password", "sslpassword"})


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """The options that every command takes."""

    database_url: str | None = None
    """A SQLite file's path, or a URL: sqlite:///runs.db, postgresql://user@host/database."""

    env_file: Path | None = None
    """A .env file with settings; the environment wins over it. None is read unless it is named."""

    json: Annotated[bool, Parameter(negative=())] = False
    """Print one JSON value on stdout, and nothing else: an object, or a list (doctor) or lines (watch) of them."""

    log_format: Literal["text", "json"] | None = None
    """How to log on stderr: text for people, or json: one object a line. WORKFLOWS_LOG_FORMAT sets it for good."""

    def settings(self) -> "Settings":
        """What the options and the environment say.

        Raises:
            StoreConfigurationError: A setting is wrong, or the env file does not exist.
        """
        from workflows_mcp.settings import load_settings

        given = {"database_url": self.database_url, "log_format": self.log_format}
        settings = load_settings(self.env_file, **{name: one for name, one in given.items() if one is not None})
        configure_logging(settings)
        return settings

    def words(self) -> list[str]:
        """The options that lead to the same database, as they are typed again; without a password."""
        words = []
        if self.database_url is not None:
            words += ["--database-url", _without_password(self.database_url)]
        if self.env_file is not None:
            words += ["--env-file", str(self.env_file)]
        return words

    @property
    def leaves_out_password(self) -> bool:
        """Whether a password was typed that `words` leaves out."""
        return self.database_url is not None and _has_password(self.database_url)

    def words_elsewhere(self, settings: "Settings") -> list[str]:
        """The same for a terminal of its own, in any folder, which does not have this process's environment either.

        Args:
            settings: What the options and the environment say.
        """
        words = [] if settings.uses_default_path else ["--database-url", _from_any_folder(settings.url)]
        if self.env_file is not None:
            words += ["--env-file", str(self.env_file.absolute())]
        return words


DEFAULT_OPTIONS = Options()


def command_line(*words: str, ids: Sequence[str] = (), options: Options) -> str:
    """A command to type, with the options that lead to the same database: see `command_to_type`.

    A password that they had is left out, and its place is shown: whoever types the rest is not refused for want of it.
    """
    typed = command_to_type(words, ids, options.words())
    return f"PGPASSWORD=*** {typed}" if options.leaves_out_password else typed


def check_id(what: str, value: str) -> str:
    """The value, if it is fit to be an id or a name.

    Raises:
        UsageError: It is not.
    """
    from workflows_mcp.engine.filters import check_name

    try:
        return check_name(what, value)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _from_any_folder(url: str) -> str:
    return _without_password(url) if "://" in url else str(Path(url).absolute())


def _has_password(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme.startswith("postgres") and bool(parts.password or "password" in dict(parse_qsl(parts.query)))


def _without_password(url: str) -> str:
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition('://')[0]}://..."
    login, at, host = parts.netloc.rpartition("@")
    query = parts.query
    if any(key in query for key in _SECRET_KEYS):
        query = urlencode([pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] not in _SECRET_KEYS])
    if not query and "?" not in url and ":" not in login:
        return url
    # Not by `geturl`, which leaves out the two slashes where they stand before no host.
    return f"{parts.scheme}://{login.partition(':')[0]}{at}{host}{parts.path}{'?' if query else ''}{query}"
