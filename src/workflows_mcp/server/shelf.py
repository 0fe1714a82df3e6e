"""The workflows of the library as this server can run them. Everything here reads files: it belongs into a thread."""

from collections.abc import Iterator
from dataclasses import dataclass

from workflows_mcp.engine.definition import WorkflowDefinition
from workflows_mcp.engine.nested import NestedWorkflows
from workflows_mcp.engine.plan import Plan
from workflows_mcp.errors import WorkflowDefinitionError, WorkflowNotFoundError
from workflows_mcp.server.services import Services

__all__ = ["Shelved", "broken_files", "check_here", "find_on_shelf", "no_such_workflow", "workflows_on_shelf"]

_MOST_NAMES = 30


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


def workflows_on_shelf(services: Services) -> Iterator[Shelved]:
    """All workflows, in alphabetical order of their names."""
    for name in services.library.names():
        found = find_on_shelf(services, name)
        if found is not None:
            yield found


def check_here(services: Services, plan: Plan) -> None:
    """Make sure that a workflow can run on this server, with all that it calls by name.

    Raises:
        WorkflowNotFoundError: Something that it calls is not there.
        WorkflowDefinitionError: Something that it calls cannot run, or a block type is switched off.
    """
    nested = NestedWorkflows.of(plan, services.finder.find_named)
    for one in (plan, *map(nested.plan, nested.definitions)):
        services.disabled.check(one)


def _why_not_here(services: Services, plan: Plan) -> str | None:
    try:
        check_here(services, plan)
    except (WorkflowDefinitionError, WorkflowNotFoundError) as error:
        return services.library.shown(error)
    return None


def broken_files(services: Services) -> dict[str, str]:
    """Why files could not be read, by where they are in their folders."""
    library = services.library
    return {library.shown(path): library.shown(problem) for path, problem in sorted(library.broken.items())}


def no_such_workflow(services: Services, name: str) -> WorkflowNotFoundError:
    """The error for a workflow that is not there, with what there is, or what is wrong with its file."""
    for path, problem in services.library.broken.items():
        if path.stem == name:
            return WorkflowNotFoundError(
                f"workflow {name!r} cannot be used, for its file is broken: {services.library.shown(problem)}"
            )
    names = services.library.names()
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return WorkflowNotFoundError(
        f"there is no workflow {name!r}; there are {', '.join(names[:_MOST_NAMES]) or 'none'}{more}. list_workflows "
        "tells what they do; reload_workflows finds files that are new"
    )
