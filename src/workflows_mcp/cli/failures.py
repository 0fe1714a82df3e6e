"""What is said, and with which exit code, when something goes wrong."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import CycloptsError

__all__ = [
    "EXIT_CANCELLED",
    "EXIT_ERROR",
    "EXIT_INTERRUPTED",
    "EXIT_USAGE",
    "CommandError",
    "Failure",
    "InterruptedRunError",
    "UsageError",
    "explain",
    "one_line",
]

EXIT_ERROR, EXIT_USAGE, EXIT_CANCELLED, EXIT_INTERRUPTED = 1, 2, 3, 130

# A URL may have been typed where something else belongs, and be quoted in a message.
_WORD = re.compile(r"\S+")
_LOGIN = re.compile(r":/+[^\s:/@]*:")
_PASSWORD = re.compile(r"((?:^|[?&;,'\"\s])(?:ssl)?password=)[^\s&]*", re.IGNORECASE)

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class UsageError(Exception):
    """The command line asks for something that makes no sense; the message says what would."""


class CommandError(Exception):
    """What was asked for cannot be done; the message says why, and what to do next."""


class InterruptedRunError(Exception):
    """A run was stopped by Ctrl-C; the message says how it goes on."""


@dataclass(frozen=True)
class Failure:
    """How a command ends that failed.

    Attributes:
        code: The exit code.
        line: What stands on stderr.
    """

    code: int
    line: str


def explain(error: BaseException) -> Failure:
    """Say what an exception means to whoever typed the command."""
    if isinstance(error, KeyboardInterrupt | InterruptedRunError):  # before an import that may be what was interrupted
        return Failure(EXIT_INTERRUPTED, one_line(f"interrupted; {error}" if str(error) else "interrupted"))
    from cyclopts import CycloptsError

    from workflows_mcp.errors import WorkflowsError

    if isinstance(error, CycloptsError):
        return _error(EXIT_USAGE, f"{_what_is_wrong(error)}; see: {_help_command(error.command_chain)}")
    if isinstance(error, UsageError):
        return _error(EXIT_USAGE, str(error))
    return _error(EXIT_ERROR, _text_of(error, known=(CommandError, WorkflowsError, ValueError)))


def _text_of(error: BaseException, known: tuple[type[Exception], ...]) -> str:
    if isinstance(error, UnicodeError):
        return "the input is not UTF-8 text; convert it first"
    if isinstance(error, known):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename!r}: " if error.filename else ""
        return f"{where}{error.strerror or type(error).__name__}"
    from workflows_mcp.errors import place_of

    return (
        f"unexpected {type(error).__name__}{place_of(error)}: a bug; set WORKFLOWS_DEBUG=1 to see the traceback, and "
        "report it"
    )


def one_line(text: str) -> str:
    """A text without line breaks, control characters and passwords, fit for a terminal's line."""
    line = _UNPRINTABLE.sub(" ", text)
    if "@" in line:
        line = _WORD.sub(_masked, line)
    return _PASSWORD.sub(r"\1***", line).strip()


def _masked(word: re.Match[str]) -> str:
    """A word; of a URL, without what stands between the user and the last `@`.

    It is looked for from both ends, since one expression would try each beginning with each end: for hours, where a
    stranger's text has very many of them.
    """
    before, _, after = word[0].rpartition("@")
    login = _LOGIN.search(before)
    return word[0] if login is None else f"{before[: login.end()]}***@{after}"


def _error(code: int, text: str) -> Failure:
    return Failure(code, f"error: {one_line(text)}")


def _what_is_wrong(error: "CycloptsError") -> str:
    from cyclopts.exceptions import UnknownCommandError, UnusedCliTokensError

    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"there is no place for {', '.join(map(repr, error.unused_tokens))}"
    error.verbose = False
    text = str(error)
    if isinstance(error, UnknownCommandError):
        word = error.unused_tokens[0] if error.unused_tokens else ""
        if word.startswith("-"):
            option = word.partition("=")[0]
            return f"options go after the command: {_command(error.command_chain)} COMMAND {option} …"
        if text.endswith("..."):  # the list was cut; the help has all of it
            text = text.partition(" Available commands: ")[0]
    return text.rstrip(".?")


def _help_command(chain: object) -> str:
    return f"{_command(chain)} --help"


def _command(chain: object) -> str:
    words = [str(word) for word in chain] if isinstance(chain, list | tuple) else []
    return " ".join(["workflows-mcp", *words])
