"""What the document of the language shows works as it shows it."""

import re

import pytest

from tests.documents.pieces import ROOT
from tests.workflows.corpus import Case
from tests.workflows.playing import check
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.yaml_text import parse_yaml

TEXT = (ROOT / "docs" / "workflows.md").read_text()

EXAMPLES: dict[str, tuple[list[Case], str]] = {
    f"line {TEXT.count(chr(10), 0, found.start()) + 1}": (
        [Case.model_validate(case) for case in parse_yaml(found[1])],
        found[2] if found[2].startswith("name: ") else f"name: example\n{found[2]}",
    )
    for found in re.finditer(r"^<!-- run\n(.*?)^-->\n```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
}
"""By the line where each begins; an example may leave out its name."""


@pytest.mark.parametrize("place", EXAMPLES)
async def test_an_example_does_what_is_said_beside_it(place: str) -> None:
    """In a comment, which readers do not see."""
    cases, workflow = EXAMPLES[place]
    for case in cases:
        await check(workflow, case, InMemoryCheckpointStore())


def test_every_example_is_run() -> None:
    """There is none without a comment."""
    assert len(EXAMPLES) == TEXT.count("```yaml") > 10
