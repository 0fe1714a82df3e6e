"""Words of a command, as a message shows them to be typed."""

import os
import shlex

__all__ = ["quoted"]


def quoted(word: str) -> str:
    """A word as a shell takes it. One that would move a terminal's cursor is escaped, as Bash, zsh and ksh read it."""
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
