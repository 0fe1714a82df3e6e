"""The settings, and the only place that reads the environment.

A `.env` file is read only when it is named: a program started in a stranger's folder must not obey what lies
there.
"""

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from platformdirs import user_data_path
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from workflows_mcp.documents import document
from workflows_mcp.errors import StoreConfigurationError

__all__ = ["MEMORY_URL", "SECRET_PREFIX", "Settings", "load_settings", "read_secrets"]

MEMORY_URL = "memory://"
"""The URL of the store in memory."""

SECRET_PREFIX = "WORKFLOW_SECRET_"  # noqa: S105 - a name
"""How the names of environment variables that hold secrets begin."""

_SECRET_NAME = re.compile(r"[A-Z0-9_]+")

_DEFAULT_PATH = "checkpoints.db"

_CHECKPOINT_OPTIONS = (
    "max_per_workflow",
    "ttl_seconds",
    "keep_paused",
    "auto_cleanup",
    "cleanup_interval_seconds",
    "max_checkpoint_size_mb",
    "checkpoint_every",
)


def _none_for_no_limit(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() == "none" else value


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _fit_for_a_name(value: str) -> str:
    if "\0" in value or len(value.encode(errors="replace")) > _LONGEST_NAME:
        raise ValueError(f"a workflow's name has at most {_LONGEST_NAME} bytes, and no U+0000")
    return value


def _as_host(value: str) -> str:
    if _HOST.fullmatch(value.lower()) is None:
        raise ValueError(
            "each is a host's name or address, with or without a port, and stands for no other: mcp.example.org, "
            "10.0.0.7:8000, [fd00::7]"
        )
    return value.lower()


def _as_origin(value: str) -> str:
    found = _ORIGIN.fullmatch(value.lower())
    if found is None:
        raise ValueError("each is what a browser sends as Origin: https://inspector.example.org, http://localhost:6274")
    scheme, host, port = found.groups()
    # As a browser writes it: the scheme's own port is left out.
    return f"{scheme}://{host}" if port in {None, _PORTS.get(scheme)} else f"{scheme}://{host}:{port}"


_NAME = r"(?:[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])"
_HOST = re.compile(rf"{_NAME}(?::[0-9]{{1,5}})?")
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://({_NAME})(?::([0-9]{{1,5}}))?")
_PORTS = {"http": "80", "https": "443"}
AllowedHost = Annotated[str, AfterValidator(_as_host)]
AllowedOrigin = Annotated[str, AfterValidator(_as_origin)]

_LONGEST_NAME = 512
_WorkflowName = Annotated[str, Field(min_length=1), AfterValidator(_fit_for_a_name)]


class RetentionOptions(BaseModel):
    """What retention does otherwise with the checkpoints of one workflow; see `RetentionPolicy`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    max_per_workflow: int | None = Field(default=None, ge=1)
    ttl_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    keep_paused: bool = True

    @property
    def given(self) -> dict[str, Any]:
        """What was said, by name: None is said, too."""
        return self.model_dump(exclude_unset=True)


_T = TypeVar("_T")
# An empty variable counts as not set, so that it takes a word to say that there is no limit.
_Limit = Annotated[_T | None, BeforeValidator(_none_for_no_limit)]


class Settings(BaseSettings):
    """What a store needs to know besides its URL, and where that URL comes from.

    In code, the names below are keyword arguments; in the environment each is `WORKFLOWS_` and its name in
    capitals, except where another name is given.

    Attributes:
        database_url: A SQLite file's path, or a URL (`sqlite:///…`, `postgresql://…`, `memory://`); also read
            from `CHECKPOINT_DATABASE_URL`.
        storage_type: `memory` or `sqlite`, read from `STORAGE_TYPE`.
        checkpoint_db_path: A SQLite file's path, read from `CHECKPOINT_DB_PATH`.
        sqlite_path: A SQLite file's path, read from `SQLITE_PATH`.
        deadline_seconds: Every call of a store ends within this time, with a result or an error.
        pool_size: The most connections that a store opens, besides the two that it holds for saving and loading.
        sqlite_synchronous: `FULL`: acknowledged means durable. `NORMAL`: a power cut may lose the last
            acknowledged checkpoints. `EXTRA`: `FULL`, and the folder's entry is synced too.
        pgbouncer: Whether PostgreSQL is reached through PgBouncer in transaction mode.
        database_schema: The schema of a PostgreSQL database in which the tables are; None: the first one of
            `search_path`.
        database_password_command: A command that prints PostgreSQL's password, run for new connections to a database
            whose URL names none.
        database_password_file: A file that holds it, read for each of them.
        auto_upgrade: Whether the command line brings an existing, older database to head by itself, also while
            processes of an older version use it: only where these are always stopped before.
        template_paths: Folders with workflows that can be run by name, with commas between them in the environment;
            a later one overrides an earlier one.
        disabled_blocks: Block types with which no workflow runs, or goes on, here; with commas between them in the
            environment.
        inline_workflows: Whether the MCP server runs workflows that come as YAML with the call.
        slow_operation_seconds: From how many seconds on a call to the database is warned of; in the environment,
            `none` means never.
        log_format: How the command line logs on stderr: `text` for people, `json` for programs, a line for each event.
        log_level: From which level on; None: `warning` in text, `info` in JSON.
        metrics_port: Where `recover --watch` serves metrics on the loopback address; None: nowhere.
        tracing: Whether the command line makes OpenTelemetry spans.
        lease_seconds: How long after a process is gone others may go on with its runs.
        delta_cache_mb: How much of live runs' newest states is kept in memory, in MiB, so that the next one is stored
            as a delta; 0: all are stored whole.
        encryption: `auto`: what is saved is sealed if there are keys. `required`: there must be keys, and nothing is
            loaded that is not sealed. `off`: keys only open, and what is saved is plain.
        encryption_keys: The keys themselves, the newest first: `id:base64,id:base64`. See `docs/encryption.md`.
        encryption_key_file: A file that holds them.
        encryption_key_command: A command that prints them, run without a shell.
        http_host: Where `serve --http` listens: an address, or a name that has one.
        http_port: Its port; 0: a free one, which is told.
        http_token: What a client must show to be served: `Authorization: Bearer TOKEN`. Several with commas between
            them, any of which will do, while one takes another's place.
        http_token_file: A file that holds it, or several.
        http_allowed_hosts: Names by which the server may be called besides those of this machine: `mcp.example.org`,
            or `mcp.example.org:8443`.
        http_allowed_origins: Origins whose pages in a browser may call it: `https://inspector.example.org`.
        http_max_body_mb: The largest body of a request, in MiB.
        http_stateless: Whether no session is kept for clients of older protocols.
        http_grace_seconds: How long runs may go on to their next checkpoint when the server is stopped.
        http_ui: Whether `serve --http` has the pages for people, at `/ui`.
        http_ui_read_only: Whether these only show, and take no answers.
        checkpoint_every: See `CheckpointConfig`, as for all below.
        max_checkpoint_size_mb: In the environment, `none` means no limit, here and below.
        max_per_workflow: How many checkpoints of a workflow retention keeps.
        ttl_seconds: The age after which retention deletes.
        keep_paused: Whether retention leaves waiting checkpoints alone.
        auto_cleanup: Whether what runs for long, such as `recover --watch`, does retention in the background.
        cleanup_interval_seconds: Seconds between two rounds of retention.
        retention: What retention does otherwise with some workflows, by name; in the environment a JSON object.
    """

    model_config = SettingsConfigDict(
        env_prefix="WORKFLOWS_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        # A message that quoted its input could show a password.
        hide_input_in_errors=True,
        validate_by_name=True,
        validate_by_alias=True,
    )

    database_url: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("WORKFLOWS_DATABASE_URL", "CHECKPOINT_DATABASE_URL")
    )
    storage_type: Literal["memory", "sqlite"] | None = Field(default=None, validation_alias="STORAGE_TYPE")
    checkpoint_db_path: str | None = Field(default=None, validation_alias="CHECKPOINT_DB_PATH")
    sqlite_path: str | None = Field(default=None, validation_alias="SQLITE_PATH")
    deadline_seconds: float = Field(default=10.0, gt=0, le=3600, allow_inf_nan=False)
    pool_size: int = Field(default=10, ge=1, le=1000)
    sqlite_synchronous: Literal["FULL", "EXTRA", "NORMAL"] = "FULL"
    pgbouncer: bool = False
    database_schema: str | None = None
    database_password_command: SecretStr | None = None
    database_password_file: Path | None = None
    auto_upgrade: bool = False
    # Not decoded: pydantic-settings would take nothing but JSON for a list.
    template_paths: Annotated[tuple[Path, ...], NoDecode] = ()
    disabled_blocks: Annotated[tuple[str, ...], NoDecode] = ()
    inline_workflows: bool = True
    slow_operation_seconds: _Limit[float] = Field(default=1.0, gt=0, allow_inf_nan=False)
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] | None = None
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    tracing: bool = False
    lease_seconds: float = Field(default=30.0, gt=0, le=86400, allow_inf_nan=False)
    delta_cache_mb: float = Field(default=64.0, ge=0, le=1048576, allow_inf_nan=False)
    encryption: Literal["auto", "required", "off"] = "auto"
    encryption_keys: SecretStr | None = None
    encryption_key_file: Path | None = None
    encryption_key_command: SecretStr | None = None
    http_host: str = Field(default="127.0.0.1", min_length=1, max_length=255)
    http_port: int = Field(default=8000, ge=0, le=65535)
    http_token: SecretStr | None = None
    http_token_file: Path | None = None
    http_allowed_hosts: Annotated[tuple[AllowedHost, ...], NoDecode] = ()
    http_allowed_origins: Annotated[tuple[AllowedOrigin, ...], NoDecode] = ()
    http_max_body_mb: float = Field(default=4.0, gt=0, le=1024, allow_inf_nan=False)
    http_stateless: bool = False
    http_grace_seconds: float = Field(default=20.0, ge=0, le=86400, allow_inf_nan=False)
    http_ui: bool = True
    http_ui_read_only: bool = False
    checkpoint_every: Literal["wave", "block"] = "wave"
    max_checkpoint_size_mb: _Limit[float] = Field(default=10.0, gt=0, allow_inf_nan=False)
    max_per_workflow: _Limit[int] = Field(default=50, ge=1)
    ttl_seconds: _Limit[float] = Field(default=7 * 86400.0, gt=0, allow_inf_nan=False)
    keep_paused: bool = True
    auto_cleanup: bool = True
    cleanup_interval_seconds: float = Field(default=3600.0, gt=0, allow_inf_nan=False)
    # Not decoded: what is wrong with it is to be said by us, too.
    retention: Annotated[dict[_WorkflowName, RetentionOptions], NoDecode] = Field(default_factory=dict)

    @field_validator("template_paths", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return tuple(Path(path.strip()).expanduser() for path in value.split(",") if path.strip())
        except RuntimeError:
            raise ValueError("a path begins with ~ and the name of a user whose home folder is not known") from None

    @field_validator("disabled_blocks", "http_allowed_hosts", "http_allowed_origins", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("retention", mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value, object_pairs_hook=_without_repetition)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"it is no JSON (line {error.lineno}, column {error.colno}); it looks like "
                '{"nightly import": {"max_per_workflow": 10, "ttl_seconds": null}}'
            ) from None

    @property
    def checkpoint_options(self) -> dict[str, Any]:
        """What `CheckpointConfig` is made of, by name, but for its policies: those are `retention`."""
        return {name: getattr(self, name) for name in _CHECKPOINT_OPTIONS}

    @property
    def url(self) -> str:
        """The URL or path of the database: the first of the settings that is set, in the documented order.

        May hold a password; `describe_database` of the persistence layer makes it fit to be shown.
        """
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        if self.storage_type == "memory":
            return MEMORY_URL
        if self.storage_type == "sqlite":
            return self.sqlite_path or self.checkpoint_db_path or _DEFAULT_PATH
        return self.checkpoint_db_path or self.sqlite_path or str(self.default_path)

    @property
    def default_path(self) -> Path:
        """The SQLite file that is used when nothing is set."""
        return user_data_path("workflows-mcp", appauthor=False) / _DEFAULT_PATH

    @property
    def uses_default_path(self) -> bool:
        """Whether nothing is set, so that the file in the user's data directory is used."""
        named = (self.database_url, self.storage_type, self.checkpoint_db_path, self.sqlite_path)
        return all(value is None for value in named)


def load_settings(env_file: str | Path | None = None, **overrides: object) -> Settings:
    """Read the settings from the environment.

    Args:
        env_file: A `.env` file to read besides; the environment wins over it.
        **overrides: Settings by name, which win over both.

    Raises:
        StoreConfigurationError: A value is wrong, or the file does not exist.
    """
    if env_file is not None:
        _require_text(Path(env_file))
    try:
        return Settings(_env_file=env_file, **overrides)  # type: ignore[call-arg, arg-type] # read and checked by pydantic
    except ValidationError as error:
        problems = "; ".join(
            f"{_variable(str(problem['loc'][0]))}: {_within(problem['loc'][1:])}{problem['msg']}"
            for problem in error.errors(include_input=False, include_context=False, include_url=False)
        )
    raise StoreConfigurationError(f"a setting is wrong: {problems}. {document('settings')} lists them all")


def read_secrets() -> dict[str, str]:
    """The secrets that the environment holds now, by name: the value of `WORKFLOW_SECRET_KEY` under `KEY`.

    A name has capitals, digits and underscores; other variables, and empty ones, are no secrets.
    """
    found = {
        variable.removeprefix(SECRET_PREFIX): value
        for variable in os.environ  # without the values of all others, which take twice as long to decode
        if variable.startswith(SECRET_PREFIX) and (value := os.environ.get(variable))
    }
    return {name: value for name, value in found.items() if _SECRET_NAME.fullmatch(name)}


def _variable(name: str) -> str:
    """The environment variable that a setting is read from; some bear it as their name already."""
    return name if name.isupper() else f"WORKFLOWS_{name.upper()}"


def _within(place: tuple[int | str, ...]) -> str:
    """Where in a setting that has parts."""
    return "".join(f"{part!r}: " for part in place if part != "[key]")


def _require_text(env_file: Path) -> None:
    is_text = False
    try:
        env_file.read_bytes().decode()
        is_text = True
    except FileNotFoundError:
        problem = "does not exist"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    if not is_text:
        raise StoreConfigurationError(f"the env file {str(env_file)!r} {problem}")
