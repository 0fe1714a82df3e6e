"""What the guide says that users see is what they see."""

import ast
import functools
import re
from collections.abc import Iterator

import pytest

from benchmarks.stores import STORES, with_table
from tests.documents.pieces import ROOT

GUIDE = (ROOT / "docs" / "guide.md").read_text()
TROUBLE = GUIDE.partition("\n## Troubleshooting")[2].partition("\n## ")[0]

SYMPTOMS = [
    span
    for row in re.findall(r"^\| (.*?) \| .* \| .* \|$", TROUBLE, re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", row)
    if not span.startswith("workflows-mcp ")
]
"""What somebody sees who looks into the tables; … stands for what differs."""


def texts_in(source: str) -> Iterator[str]:
    """All texts of some code, with … for what is put into them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)


@functools.cache
def texts() -> str:
    """Those of the whole program."""
    paths = [path for folder in ("src", "migrations") for path in sorted((ROOT / folder).rglob("*.py"))]
    return "\n".join(text for path in paths for text in texts_in(path.read_text()))


def is_said(symptom: str) -> bool:
    """Whether the program can say this."""
    return all(part.strip() in texts() for part in symptom.split("…"))


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_a_symptom_is_what_the_program_says(symptom: str) -> None:
    """To the letter: people search for what they see."""
    assert is_said(symptom)


def test_what_the_program_does_not_say_is_noticed() -> None:
    """The test above can fail."""
    assert len(SYMPTOMS) > 30
    assert not is_said("is locked by a process")
    assert not is_said("all connections to … are occupied")


def test_the_guides_figures_are_measured() -> None:
    """By a command that stands below them; another table takes their place."""
    table = GUIDE.partition("<!-- stores -->")[2].partition("<!-- /stores -->")[0]
    assert all(title in table for title in STORES.values())
    assert re.search(r"^`python3 run\.py bench stores .*`, \d{4}-\d\d-\d\d: ", table, re.MULTILINE)
    assert with_table("a\n<!-- stores -->\nold\n<!-- /stores -->\nb", "new").splitlines() == [
        "a",
        "<!-- stores -->",
        "new",
        "<!-- /stores -->",
        "b",
    ]
    with pytest.raises(ValueError, match="no <!-- stores -->"):
        with_table("a", "new")
