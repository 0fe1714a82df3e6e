"""Text that people wrote and that every Python brings along: it compresses as the outputs of real blocks do."""

import ast
import sysconfig
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

__all__ = ["NotEnoughTextError", "prose"]

_LEFT_OUT = frozenset(
    {"dist-packages", "encodings", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tests", "turtledemo"}
)
"""Folders of the standard library that not every system has, or whose text is tables."""

_SHORTEST = 60
"""Pieces of fewer characters are left out: most are phrases that others use, too."""


class NotEnoughTextError(ValueError):
    """More text was asked for than there is."""


def prose(length: int) -> str:
    """So many characters out of the language reference, then of the standard library's docstrings and comments.

    The same for every process of one version of Python. No piece is in it twice.

    Raises:
        NotEnoughTextError: There are not as many.
    """
    pieces: list[str] = []
    seen: set[str] = set()
    missing = length
    for piece in _pieces():
        if missing <= 0:
            break
        if len(piece) >= _SHORTEST and piece not in seen:
            seen.add(piece)
            pieces.append(f"{piece}\n\n")
            missing -= len(pieces[-1])
    if missing > 0:
        raise NotEnoughTextError(
            f"this Python has {length - missing:,} characters of prose, and {length:,} are needed: "
            "choose fewer --megabytes"
        )
    return "".join(pieces)[:length]


def _pieces() -> Iterator[str]:
    from pydoc_data.topics import topics

    for _, text in sorted(topics.items()):
        yield text
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        if not _LEFT_OUT.intersection(path.relative_to(library).parts):
            source = path.read_text(encoding="utf-8", errors="replace")
            yield from _docstrings(source)
            yield from _comments(source)


def _docstrings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield text


def _comments(source: str) -> Iterator[str]:
    """Those that fill their lines; neighbours are one piece."""
    lines = (line.strip() for line in source.splitlines())
    for is_comment, block in groupby(lines, key=lambda line: line.startswith("#")):
        if is_comment:
            yield "\n".join(line.lstrip("# ") for line in block)
