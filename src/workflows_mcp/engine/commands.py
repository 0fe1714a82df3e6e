"""Commands that people are told to type."""

import shlex
from collections.abc import Sequence
from itertools import takewhile

__all__ = ["command_to_type"]


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
        return shlex.join(["workflows-mcp", *command, *own, *options, "--", *ids])
    return shlex.join(["workflows-mcp", *command, *ids, *own, *options])
