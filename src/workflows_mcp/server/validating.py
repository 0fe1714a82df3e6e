"""Checks a workflow's text as a whole, and says all that is wrong with it, or odd about it; runs nothing."""

import json
import re
from collections.abc import Iterator

from workflows_mcp.engine.definition import WorkflowDefinition
from workflows_mcp.engine.plan import Plan, plan_workflow
from workflows_mcp.engine.workflow import read_workflow
from workflows_mcp.errors import WorkflowDefinitionError, WorkflowNotFoundError
from workflows_mcp.server.replies_workflows import ValidationReply, inputs_of
from workflows_mcp.server.services import Services
from workflows_mcp.server.shelf import check_here

__all__ = ["validate_text"]


def validate_text(services: Services, text: str) -> ValidationReply:
    """What is wrong with a workflow's text, were it to run on this server. It reads files: it belongs into a thread."""
    definition: WorkflowDefinition | None = None
    plan: Plan | None = None
    problems: tuple[str, ...] = ()
    try:
        # With a line break in it, it is a text, whatever it holds: no path is looked at.
        definition = read_workflow(text if "\n" in text else f"{text}\n")
        plan = plan_workflow(definition)
        check_here(services, plan)
    except WorkflowDefinitionError as error:
        problems = error.problems
    except WorkflowNotFoundError as error:
        problems = (str(error),)
    return ValidationReply(
        valid=not problems,
        name=None if definition is None else definition.name,
        problems=[services.library.shown(problem) for problem in problems],
        warnings=[] if plan is None else list(_oddities(services, plan)),
        inputs=[] if definition is None else inputs_of(definition),
        waves=[] if plan is None else plan.wave_lists,
    )


def _oddities(services: Services, plan: Plan) -> Iterator[str]:
    definition = plan.definition
    if not definition.description:
        yield "it has no description: those who look for a workflow cannot tell what it is for"
    if not definition.outputs:
        yield "it has no outputs: whoever runs it learns nothing but whether it went well"
    read = json.dumps(plan.data, ensure_ascii=False)
    # Inputs that are read in any other way than by a plain name may be any of them.
    if not re.search(r"\binputs\s*[^.\w\s\"]", read):
        named = set(re.findall(r"\binputs\s*\.\s*(\w+)", read))
        yield from (f"input {name!r} is read nowhere" for name in definition.inputs if name not in named)
    if services.library.find(definition.name) is not None:
        yield (
            f"there is a workflow {definition.name!r} already: a file of that name in a later folder overrides it, and "
            "two in one folder are both broken"
        )
