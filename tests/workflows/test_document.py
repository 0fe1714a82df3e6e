"""What the documents about the language show works as they show it."""

import re

import pytest

from tests.documents.pieces import ROOT
from tests.workflows.corpus import Case
from tests.workflows.playing import check
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.yaml_text import parse_yaml

TEXTS = {name: (ROOT / "docs" / name).read_text() for name in ("workflows.md", "interactive-blocks.md")}

EXAMPLES: dict[str, tuple[list[Case], str]] = {
    f"{name}:{text.count(chr(10), 0, found.start()) + 1}": (
        [Case.model_validate(case) for case in parse_yaml(found[1])],
        found[2] if found[2].startswith("name: ") else f"name: example\n{found[2]}",
    )
    for name, text in TEXTS.items()
    for found in re.finditer(r"^<!-- run\n(.*?)^-->\n```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
}
"""By the place where each begins; an example may leave out its name."""


@pytest.mark.parametrize("place", EXAMPLES)
async def test_an_example_does_what_is_said_beside_it(place: str) -> None:
    """In a comment, which readers do not see."""
    cases, workflow = EXAMPLES[place]
    for case in cases:
        await check(workflow, case, InMemoryCheckpointStore())


def test_every_example_is_run() -> None:
    """There is none without a comment."""
    assert len(EXAMPLES) == sum(text.count("```yaml") for text in TEXTS.values()) > 10
