"""The workflows of this folder, and what is expected of each: `NAME.yaml` and, beside it, `NAME.expected.yaml`.

An expectation is a list of cases, each a run of the workflow.
"""

import functools
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from workflows_mcp.engine.definition import WorkflowDefinition
from workflows_mcp.engine.workflow import read_workflow
from workflows_mcp.engine.yaml_text import parse_yaml

__all__ = ["FOLDER", "NAMES", "Answer", "Case", "cases_of", "definition_of", "path_of"]

FOLDER = Path(__file__).parent
_EXPECTED = ".expected.yaml"

NAMES = sorted(path.name.removesuffix(_EXPECTED) for path in FOLDER.glob(f"*{_EXPECTED}"))
"""The workflows' names, which are those of their files."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(_Strict):
    """What a run asks, and what it is told.

    Attributes:
        prompt: What is asked.
        answer: The answer; None: nobody answers until it is too late.
        refused: Why the answer is not taken; then the same is asked again.
    """

    prompt: str
    answer: str | None = None
    refused: str | None = None


class Case(_Strict):
    """A run of a workflow, and what it must come to.

    Attributes:
        case: What is special about it.
        uses: The other workflows that it needs.
        inputs: What it is given.
        secrets: Its secrets by name.
        answers: What it asks, in order.
        refused: Why it cannot begin; None: it can.
        status: What it comes to.
        outputs: What it gives back.
        error: Why it fails.
        error_begins: How that begins, where the whole of it cannot be known.
        error_ends: How that ends.
        blocks: Of some blocks what their records hold: a status, or a part of the record.
    """

    case: str = ""
    uses: tuple[str, ...] = ()
    inputs: dict[str, Any] = {}
    secrets: dict[str, str] = {}
    answers: tuple[Answer, ...] = ()
    refused: str | None = None
    status: Literal["success", "failure"] = "success"
    outputs: dict[str, Any] = {}
    error: str | None = None
    error_begins: str = ""
    error_ends: str = ""
    blocks: dict[str, Any] = {}


def path_of(name: str) -> Path:
    """The file of a workflow."""
    return FOLDER / f"{name}.yaml"


@functools.cache
def definition_of(name: str) -> WorkflowDefinition:
    """What stands in it."""
    return read_workflow(path_of(name))


def cases_of(name: str) -> list[Case]:
    """What is expected of a workflow."""
    return [Case.model_validate(case) for case in parse_yaml((FOLDER / f"{name}{_EXPECTED}").read_text())]
