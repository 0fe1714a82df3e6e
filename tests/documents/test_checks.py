"""The names of the checks that documents show are those that an examination has."""

import ast
import re
from collections import Counter

import workflows_mcp
from tests.documents.pieces import ROOT, blocks_of

PATH = ROOT / "docs" / "operations.md"

SHOWN = re.compile(r"^(ok|notice|problem) +(\S.*?)  +\S", re.MULTILINE)
"""A line of a report."""

TABLE = re.compile(r"^\| check \| .*\n\|---.*\n((?:\|.*\n)+)", re.MULTILINE)


def reported() -> dict[str, set[str]]:
    """The names that the program gives to checks, and the verdicts that each can have."""
    found: dict[str, set[str]] = {}
    package = ROOT / "src" / workflows_mcp.__name__
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="report") | ast.Attribute(attr="_report"), attr=verdict),
                    args=[ast.Constant(value=str(name)), *_],
                ):
                    found.setdefault(name, set()).add(verdict)
    return found


def in_tables() -> set[str]:
    """The names in the first columns of the document's tables of checks."""
    tables = TABLE.findall(PATH.read_text())
    assert len(tables) == 3
    return {
        name for table in tables for row in table.splitlines() for name in re.findall(r"`(.+?)`", row.split("|")[1])
    }


def test_what_a_sample_of_a_report_shows_is_what_the_program_reports() -> None:
    """Each check once, by its name, with a verdict that it can have; the last line counts them."""
    samples = [block.code for block in blocks_of(PATH) if len(SHOWN.findall(block.code)) > 10]
    assert len(samples) == 2
    there = reported()
    for sample in samples:
        shown = SHOWN.findall(sample)
        assert [name for name, number in Counter(name for _, name in shown).items() if number > 1] == []
        assert [(name, verdict) for verdict, name in shown if verdict not in there.get(name, ())] == []
        counts = Counter(verdict for verdict, _ in shown)
        [told] = re.findall(r"^(\d+) problems?, (\d+) notices?, (\d+) in order$", sample, re.MULTILINE)
        assert list(map(int, told)) == [counts["problem"], counts["notice"], counts["ok"]]


def test_the_tables_say_what_each_problem_and_notice_means() -> None:
    """Of every check that can have one; and name no check that there is not."""
    there = reported()
    assert in_tables() - set(there) == set()
    assert {name for name, verdicts in there.items() if verdicts - {"ok"}} - in_tables() == set()
