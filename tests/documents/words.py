"""Whether a command line that a document shows could be typed: its command and its options exist."""

import itertools
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from cyclopts import App
from cyclopts.argument import Argument

import run as run_py
from workflows_mcp.cli.app import build_app

__all__ = [
    "PRODUCT",
    "arguments_of",
    "commands",
    "known_options",
    "options_of",
    "problems_in",
    "problems_in_span",
    "product_commands",
]

PRODUCT = "workflows-mcp"

_STANDARD = {"--help", "-h", "--version"}
_PLACE_HOLDER = re.compile(r"[^a-z]")
"""No command begins with anything else: … and FILE stand for something."""


@cache
def product_commands() -> dict[tuple[str, ...], App]:
    """All commands of `workflows-mcp` by their words, groups of them included."""
    return dict(_walk((PRODUCT,), build_app()))


@cache
def commands() -> dict[tuple[str, ...], App]:
    """The same, and the tasks of `run.py` that have options."""
    from benchmarks.__main__ import app as bench
    from tests.faults.__main__ import app as faults

    return {
        **product_commands(),
        **dict(_walk(("run.py", "bench"), bench)),
        **dict(_walk(("run.py", "faults"), faults)),
    }


def arguments_of(app: App) -> list[Argument]:
    """What a command takes; a group of commands takes nothing."""
    return list(app.assemble_argument_collection()) if app.default_command else []


def options_of(command: tuple[str, ...]) -> set[str]:
    """The options of a command, those that say no among them."""
    names = {
        name
        for one in arguments_of(commands()[command])
        for name in (*one.names, *one.negatives)
        if name.startswith("-")
    }
    return names | _STANDARD


@cache
def known_options() -> frozenset[str]:
    """The options of all commands."""
    return frozenset().union(*map(options_of, commands()))


def problems_in(text: str) -> list[str]:
    """What is wrong with the command lines in a text: of `workflows-mcp`, and of `run.py`."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for call in re.finditer(r"([\"']?)(?:workflows-mcp|-m workflows_mcp) (?!-m)([^`]*)", line):
            quote, rest_of_line = call.groups()
            found += _problems((PRODUCT,), _words(rest_of_line.split(quote)[0] if quote else rest_of_line))
        for call in re.finditer(r"python3? run\.py ([^`]*)", line):
            task, *rest = _words(call[1]) or ["…"]
            if ("run.py", task) in commands():
                found += _problems(("run.py", task), rest)
            elif not _PLACE_HOLDER.match(task) and task not in run_py.TASKS and not _program(task):
                found.append(f"run.py has no task {task!r}, and there is no such program")
    return found


def problems_in_span(text: str) -> list[str]:
    """The same for inline code, where `runs list` alone is a command, too, and `--json` an option of one."""
    first, *rest = text.split() or [""]
    if rest and (PRODUCT, first) in commands():
        return _problems((PRODUCT,), _words(text))
    if re.match(r"--[a-z]", first) and first.partition("=")[0] not in known_options():
        return [f"no command has an option {first}"]
    return problems_in(text)


def _walk(words: tuple[str, ...], app: App) -> Iterator[tuple[tuple[str, ...], App]]:
    yield words, app
    for name in app:
        if not name.startswith("-"):
            yield from _walk((*words, name), app[name])


def _words(text: str) -> list[str]:
    """The words of one command, as a shell takes them apart, without what follows it."""
    lexer = shlex.shlex(re.sub(r"(?<=\w)\|(?=\w)", "/", text), posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    try:
        return list(itertools.takewhile(lambda word: word[0] not in "|&;<>()", filter(None, lexer)))
    except ValueError:  # a quotation mark of the text around it
        return re.split("[\"']", text)[0].split()


def _problems(command: tuple[str, ...], words: list[str]) -> list[str]:
    chosen = [command]
    while words and not _PLACE_HOLDER.match(words[0]) and any(map(_is_group, chosen)):
        chosen = [(*known, word) for known in chosen for word in words[0].split("/")]
        words = words[1:]
        unknown = [" ".join(one) for one in chosen if one not in commands()]
        if unknown:
            return [f"there is no command: {one}" for one in unknown]
    given = {word.strip("[]").partition("=")[0] for word in words if re.match(r"\[?--?[a-z]", word)}
    return [f"{' '.join(one)} has no option {option}" for one in chosen for option in sorted(given - options_of(one))]


def _is_group(command: tuple[str, ...]) -> bool:
    return any(other[:-1] == command for other in commands())


def _program(word: str) -> str | None:
    return shutil.which(word, path=str(Path(sys.executable).parent))
