"""What the command line logs on stderr, in text for people or in JSON for programs.

In JSON, every line on stderr is an object: what the package logs, what a command says, what happens in its runs, and
the error in which it ends. Results stay on stdout.
"""

import copy
import logging
import os
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workflows_mcp.cli import page
from workflows_mcp.cli.failures import one_line

if TYPE_CHECKING:
    from workflows_mcp.settings import Settings

__all__ = ["begin_logging", "configure_logging", "is_json", "log_failure", "log_libraries"]

_OPTION = "--log-format"

_LOGGER = "workflows_mcp"

_SECONDS_BETWEEN_LINES = 60.0

_FILLED_IN = re.compile(r"%[-#0-9.]*[a-zA-Z]|\b[0-9a-f]{32}\b|'[^']*'|\"[^\"]*\"")
"""What differs from one line to the next of the same kind: what it is about, and the ids of sessions."""


class _Handler(logging.Handler):
    """Prints what this package logs: a warning, such as that a run cannot be recovered, is a line on stderr."""

    def __init__(self) -> None:
        super().__init__()
        self.writes_json = False

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        text = one_line(record.getMessage())
        if not self.writes_json:
            page.write_line(f"{record.levelname.lower()}: {text}")
            return
        cleaned = copy.copy(record)
        cleaned.msg, cleaned.args = text, None
        page.write_line(self.format(cleaned))


_handler = _Handler()


class _Reticent(logging.Handler):
    """Says that a library has logged something, and never what a client sent that it is about.

    Each kind of line once a minute at most: clients decide how many there are.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told_at: dict[tuple[str, int], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        now, place = time.monotonic(), (record.pathname, record.lineno)
        if now - self._told_at.get(place, float("-inf")) < _SECONDS_BETWEEN_LINES:
            return
        self._told_at[place] = now
        told = copy.copy(record)
        told.msg, told.args = _FILLED_IN.sub("…", str(record.msg)), None
        _handler.handle(told)


def begin_logging(words: Sequence[str]) -> None:
    """Log as the words of the command line ask for, or else the environment; and keep libraries silent.

    They log tracebacks, say when a signal comes upon them, where one line says it all.
    """
    wanted = os.environ.get("WORKFLOWS_LOG_FORMAT")
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == _OPTION:
            wanted = following
        elif word.startswith(f"{_OPTION}="):
            wanted = word.partition("=")[2]
    if os.environ.get("WORKFLOWS_DEBUG") == "1" and wanted != "json":
        return
    silent = logging.NullHandler()
    for name, handler in {"sqlalchemy.pool": silent, "asyncio": silent, _LOGGER: _handler}.items():
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.propagate = False
    _set_format(writes_json=wanted == "json")


def configure_logging(settings: "Settings") -> None:
    """Log as the settings say, which are known once a command has begun."""
    if _handler not in logging.getLogger(_LOGGER).handlers:
        return
    _set_format(writes_json=settings.log_format == "json")
    if settings.log_level is not None:
        logging.getLogger(_LOGGER).setLevel(settings.log_level.upper())


def log_libraries(*names: str, serves_many: bool = False) -> None:
    """Log the warnings of some libraries as our own: in a line each, without tracebacks, which may show what is stored.

    Args:
        names: Of their loggers.
        serves_many: Whether they work for clients over a network: then no line shows what one of them sent, and those
            of a kind are told once a minute.
    """
    if _handler not in logging.getLogger(_LOGGER).handlers:
        return
    handler = _Reticent() if serves_many else _handler
    for name in names:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
        logger.propagate = False


def is_json() -> bool:
    """Whether stderr is for programs."""
    return _handler.writes_json


def log_failure(line: str, code: int) -> bool:
    """Log the error in which a command ends; False: it is to be printed."""
    if not is_json():
        return False
    message = line.removeprefix("error: ")
    logging.getLogger(f"{_LOGGER}.cli").error("%s", message, extra={"fields": {"exit_code": code}})
    return True


def _set_format(*, writes_json: bool) -> None:
    _handler.writes_json = writes_json
    logging.getLogger(_LOGGER).setLevel(logging.INFO if writes_json else logging.WARNING)
    page.say_through(_say_as_record if writes_json else None)
    if writes_json:
        from workflows_mcp.telemetry.logs import JSONFormatter

        _handler.setFormatter(JSONFormatter(with_tracebacks=os.environ.get("WORKFLOWS_DEBUG") == "1"))


def _say_as_record(line: str) -> None:
    level, text = logging.INFO, line
    for name in ("error", "warning"):
        if line.startswith(f"{name}: "):
            level, text = logging.getLevelNamesMapping()[name.upper()], line.removeprefix(f"{name}: ")
    logging.getLogger(f"{_LOGGER}.cli").log(level, "%s", text)
