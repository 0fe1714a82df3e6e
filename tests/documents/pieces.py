"""Documents, taken apart: their blocks of code, the command lines in these, inline code, headings, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCUMENTS", "ROOT", "Block", "anchors_of", "blocks_of", "command_lines", "links_of", "spans_of"]

ROOT = Path(__file__).parents[2]

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

_FENCE = re.compile(
    r"(?:^[ \t]*<!-- (?P<mark>[^\n]*?) -->\n)?"
    r"^(?P<indent>[ \t]*)```(?P<language>[^\n`]*)\n(?P<code>.*?)^[ \t]*```[ \t]*$\n?",
    re.MULTILINE | re.DOTALL,
)

_PROGRAMS = (
    r"workflows-mcp|python3? run\.py|python3? -m (?:workflows_mcp|tests|benchmarks|pip)|alembic|pip|pipx|uv|uvx"
    r"|docker|psql|pg_dump|pg_restore|createdb|dropdb|sqlite3"
)
_COMMAND = re.compile(rf"(?:[$>] )?(?:[A-Z_]+=\S* )*(?:exec |sudo (?:-u \S+ )?)?(?:\S*/)?(?:{_PROGRAMS})(?=[\s.]|$)")

_SEPARATOR = re.compile(r"&&|[|;]")


@dataclass(frozen=True)
class Block:
    """A piece of code in a document.

    Attributes:
        language: What stands after the fence.
        code: The code, without the indentation of a list.
        mark: The comment on the line before the fence, such as `run`; None: there is none.
    """

    language: str
    code: str
    mark: str | None = None

    @property
    def is_run(self) -> bool:
        """Whether a test runs it: Python is run unless a mark says that it is not."""
        return self.reason is None and (self.language == "python" or (self.mark or "").split(":")[0] == "run")

    @property
    def needs_server(self) -> bool:
        """Whether it is run against a PostgreSQL server."""
        return self.mark == "run: postgresql"

    @property
    def reason(self) -> str | None:
        """Why it is not run; None: nobody says that it is not."""
        kind, _, reason = (self.mark or "").partition(":")
        return reason.strip() if kind == "not run" else None

    @property
    def first_line(self) -> str:
        """To name it by."""
        return self.code.partition("\n")[0]


def blocks_of(path: Path) -> list[Block]:
    """All pieces of code in a document."""
    return [
        Block(
            found["language"].strip(),
            "".join(line.removeprefix(found["indent"]) for line in found["code"].splitlines(keepends=True)),
            found["mark"],
        )
        for found in _FENCE.finditer(path.read_text())
    ]


def command_lines(code: str) -> list[str]:
    """The lines that call a program which this project, its installation or its databases are used with."""
    lines = (line.strip() for line in code.replace("\\\n", " ").splitlines())
    return [line for line in lines if any(_COMMAND.match(part.strip()) for part in _SEPARATOR.split(line))]


def spans_of(path: Path) -> list[str]:
    """The inline code of a document; a line break in it is a space, and a bar in a table is a bar."""
    found = re.finditer(r"(`+)(.+?)\1", _prose(path), re.DOTALL)
    return [" ".join(span[2].replace("\\|", "|").split()) for span in found]


def anchors_of(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", _prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in anchors:
            number += 1
        anchors.add(anchor)
    return anchors


def links_of(path: Path) -> Iterator[tuple[str, str]]:
    """The file, which may be empty, and the anchor, which may be, of each link to something in the project."""
    text = re.sub(r"(`+).+?\1", "", _prose(path), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)", text, re.MULTILINE):
        if not re.match(r"[a-z]+:", link):
            target, _, anchor = link.partition("#")
            yield target, anchor


def _prose(path: Path) -> str:
    return _FENCE.sub("", path.read_text())
