"""The workflow that a word on the command line stands for: a name in the library, or a file; and what it calls."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from workflows_mcp.cli.failures import CommandError

if TYPE_CHECKING:
    from workflows_mcp.engine.definition import WorkflowDefinition
    from workflows_mcp.engine.finding import PlanFinder
    from workflows_mcp.engine.library import WorkflowLibrary
    from workflows_mcp.engine.plan import Plan
    from workflows_mcp.errors import WorkflowNotFoundError
    from workflows_mcp.settings import Settings

__all__ = ["find_called", "find_plan", "is_file", "open_finder"]

_FILE_SUFFIXES = (".yaml", ".yml")


def is_file(word: str) -> bool:
    """Whether a word names a file, be it there or not; else it is a workflow's name."""
    return os.sep in word or Path(word).suffix.lower() in _FILE_SUFFIXES or Path(word).is_file()


def open_finder(library: "WorkflowLibrary", settings: "Settings") -> "PlanFinder":
    """What finds the workflows that one word leads to; block types that are switched off here are refused."""
    from workflows_mcp.engine.disabling import DisabledBlocks
    from workflows_mcp.engine.finding import PlanFinder

    return PlanFinder(library, DisabledBlocks(settings.disabled_blocks))


def find_plan(word: str, library: "WorkflowLibrary", finder: "PlanFinder") -> "Plan":
    """The workflow that a word stands for, checked as a whole.

    Args:
        word: A workflow's name, or a file's path.
        library: What the finder looks names up in.
        finder: Is told what a file holds, so that what it calls can call it by its name.

    Raises:
        CommandError: There is no workflow of this name.
        WorkflowNotFoundError: There is no such file.
        WorkflowDefinitionError: It cannot run.
    """
    plan = finder.register(Path(word)) if is_file(word) else finder.find_named(word)
    if plan is None:
        raise _no_such_name(word, library)
    return plan


def find_called(word: str, plan: "Plan", finder: "PlanFinder") -> list["WorkflowDefinition"]:
    """Make sure that what a workflow calls by a name that is written out is there, and what that calls, too.

    A file calls the library's workflows, and where the library has none of a name, `NAME.yaml` or `NAME.yml` in the
    file's own folder, and nowhere else.

    Args:
        word: What stands for the workflow.
        plan: The workflow.
        finder: What has found it.

    Returns:
        Those that were found beside the file; no executor finds them unless it is told of them.

    Raises:
        WorkflowNotFoundError: Something is not there.
        WorkflowDefinitionError: Something cannot run.
    """
    from workflows_mcp.engine.nested import NestedWorkflows

    beside: list[WorkflowDefinition] = []

    def find(name: str) -> "Plan | None":
        found = finder.find_named(name)
        if found is None and is_file(word):
            found = finder.register(_file_beside(word, name))
            if found.definition.name != name:
                raise _not_beside(name, f"{found.definition.name!r} is what the file of that name holds")
            beside.append(found.definition)
        return found

    NestedWorkflows.of(plan, find)
    return beside


def _file_beside(word: str, name: str) -> Path:
    # The name of a workflow may be any text, and must lead to no other folder.
    if name and not name.startswith(".") and os.sep not in name:
        for suffix in _FILE_SUFFIXES:
            path = Path(word).parent / f"{name}{suffix}"
            if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises an error for a name that is too long
                return path
    raise _not_beside(
        name, "put its file, of the same name, beside this one or into a folder of WORKFLOWS_TEMPLATE_PATHS"
    )


def _not_beside(name: str, why: str) -> "WorkflowNotFoundError":
    from workflows_mcp.errors import WorkflowNotFoundError

    return WorkflowNotFoundError(f"there is no workflow {name!r}: {why}")


def _no_such_name(name: str, library: "WorkflowLibrary") -> CommandError:
    return CommandError(
        f"there is no workflow {name!r} in the library; there are {', '.join(library.names())}. "
        f"WORKFLOWS_TEMPLATE_PATHS names the folders of your own ones; a file is named as ./{name}.yaml"
    )
