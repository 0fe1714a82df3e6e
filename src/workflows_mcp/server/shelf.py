"""The workflows of the library as this server can run them. Everything here reads files: it belongs into a thread."""

import contextlib
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from workflows_mcp.engine.definition import WorkflowDefinition
from workflows_mcp.engine.library import WorkflowLibrary
from workflows_mcp.engine.nested import NestedWorkflows
from workflows_mcp.engine.plan import Plan
from workflows_mcp.engine.workflow import read_text
from workflows_mcp.errors import WorkflowDefinitionError, WorkflowNotFoundError
from workflows_mcp.server.services import Services

__all__ = [
    "Shelved",
    "asks_a_human",
    "broken_files",
    "check_here",
    "find_on_shelf",
    "names_with_tags",
    "why_not_found",
]

_MOST_NAMES = 20
_LONGEST_NAME_SHOWN = 80
_MOST_READ_AGAIN = 100
"""Among so many broken files it is looked for a name."""


@dataclass(frozen=True)
class Shelved:
    """A workflow of the library.

    Attributes:
        definition: What stands in its file.
        plan: The same made ready to run; None: it cannot be.
        problem: Why it cannot run on this server; None: it can.
    """

    definition: WorkflowDefinition
    plan: Plan | None
    problem: str | None


def find_on_shelf(services: Services, name: str) -> Shelved | None:
    """The workflow of a name; None: there is none."""
    definition = services.library.find(name)
    if definition is None:
        return None
    try:
        plan = services.finder.find_named(name)
    except WorkflowDefinitionError as error:
        return Shelved(definition, None, services.library.shown(error))
    return Shelved(definition, plan, None if plan is None else _why_not_here(services, plan))


def names_with_tags(services: Services, tags: frozenset[str]) -> list[str]:
    """The names of all workflows that have all of some tags, in alphabetical order."""
    find = services.library.find
    return [name for name in services.library.names() if (one := find(name)) is not None and tags <= set(one.tags)]


def check_here(services: Services, plan: Plan) -> None:
    """Make sure that a workflow can run on this server, with all that it calls by name.

    Raises:
        WorkflowNotFoundError: Something that it calls is not there.
        WorkflowDefinitionError: Something that it calls cannot run, or a block type is switched off.
    """
    for one in _all_plans(services, plan):
        services.disabled.check(one)


def asks_a_human(services: Services, found: Shelved) -> bool:
    """Whether a workflow asks a human, itself or in one that it runs, as far as those are there."""
    plans = [] if found.plan is None else [found.plan]
    with contextlib.suppress(WorkflowDefinitionError, WorkflowNotFoundError):
        plans = list(_all_plans(services, *plans))
    definitions = [found.definition, *(plan.definition for plan in plans)]
    return any(block.type == "Prompt" for one in definitions for block in one.blocks)


def _all_plans(services: Services, *plans: Plan) -> Iterator[Plan]:
    """Workflows, with all that they call by name or hold."""
    for plan in plans:
        nested = NestedWorkflows.of(plan, services.finder.find_named)
        yield plan
        yield from map(nested.plan, nested.definitions)


def _why_not_here(services: Services, plan: Plan) -> str | None:
    try:
        check_here(services, plan)
    except (WorkflowDefinitionError, WorkflowNotFoundError) as error:
        return services.library.shown(error)
    return None


def broken_files(services: Services) -> dict[str, str]:
    """Why files could not be read, by where they are in their folders."""
    library = services.library
    shown = {library.shown(path): library.shown(problem) for path, problem in sorted(library.broken.items())}
    return {path: problem.removeprefix(f"{path}: ") for path, problem in shown.items()}


def why_not_found(services: Services, name: str) -> str | None:
    """Why there is no workflow of this name, and which there are; None: there is one."""
    library = services.library
    if library.find(name) is not None:
        return None
    names = library.names()
    close = difflib.get_close_matches(name[:_LONGEST_NAME_SHOWN], names, n=5)
    shown = name if len(name) <= _LONGEST_NAME_SHOWN else f"{name[:_LONGEST_NAME_SHOWN]}…"
    if "\n" in name or name.lstrip().startswith("{"):
        why = "workflow takes the name of a workflow that this server has, and no YAML"
        why += "; execute_inline_workflow runs YAML" if services.settings.inline_workflows else ""
    elif "/" in name or "\\" in name or name.endswith((".yaml", ".yml")):
        why = f"workflow takes the name of a workflow that this server has, and no path such as {shown!r}"
    else:
        why = f"there is no workflow {shown!r}{_broken_instead(library, name, has_close=bool(close))}"
    listed = [*close, *(one for one in names if one not in close)]
    more = len(listed) - _MOST_NAMES
    known = ", ".join(listed[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
    return (
        f"{why}. There are: {known or 'none'}. list_workflows tells what each is for, and which files are broken; "
        "reload_workflows finds new ones"
    )


def _broken_instead(library: WorkflowLibrary, name: str, *, has_close: bool) -> str:
    """That a workflow may be in a file that is broken; nothing, where it more likely has another name."""
    broken = library.broken
    named = re.compile(rf"""^name\s*:\s*(["']?){re.escape(name)}\1\s*(?:#.*)?$""", re.MULTILINE)
    for path, problem in list(broken.items())[:_MOST_READ_AGAIN]:
        text = ""
        with contextlib.suppress(WorkflowDefinitionError, WorkflowNotFoundError):
            text = read_text(path)
        if path.stem == name or named.search(text):
            return f", but a file that is broken: {library.shown(problem)}"
    if has_close or not broken:
        return ""
    others = len(broken) - 1
    more = f", this or one of {others:,} more" if others else ""
    return f"; perhaps it was in what is broken{more}: {library.shown(next(iter(broken.values())))}"
