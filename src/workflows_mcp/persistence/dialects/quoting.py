"""Words of a command and names in a statement, as a message or a script shows them to be typed."""

import os
import shlex

__all__ = ["identifier", "literal", "quoted"]


def quoted(word: str) -> str:
    """A word as a shell takes it. One that would move a terminal's cursor is escaped, as Bash, zsh and ksh read it."""
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def identifier(name: str) -> str:
    """A name of a schema, a role or a table as SQL takes it, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as PostgreSQL takes it; the E stands where a backslash would mean something else without it."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'" if "\\" not in text else "E'" + escaped.replace("\\", "\\\\") + "'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
