"""Commands that people are told to type."""

import shlex
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import takewhile

__all__ = ["command_to_type"]

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of characters that are not seen, or that change how others are."""


def command_to_type(words: Sequence[str], ids: Sequence[str] = (), options: Sequence[str] = ()) -> str:
    """A command for a shell, which takes each id for an id, whatever it looks like.

    Args:
        words: The command, and options of its own; a value that may begin with a dash stands after a `=`.
        ids: What it is about.
        options: Those that every command takes.
    """
    command = list(takewhile(lambda word: not word.startswith("-"), words))
    own = words[len(command) :]
    if any(one.startswith("-") for one in ids):  # all that follows the two dashes is no option
        return _joined(["workflows-mcp", *command, *own, *options, "--", *ids])
    return _joined(["workflows-mcp", *command, *ids, *own, *options])


def _joined(words: Iterable[str]) -> str:
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """A word for a shell; what is not seen is named, for a terminal may take it for keys even within quotes."""
    if not any(map(_is_hidden, word)):
        return shlex.quote(word)
    escaped = word.replace("\\", r"\\").replace("'", r"\'")
    return f"$'{''.join(_named(one) if _is_hidden(one) else one for one in escaped)}'"  # as bash and zsh have it


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN


def _named(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
