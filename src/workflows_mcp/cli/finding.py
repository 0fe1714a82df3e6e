"""The workflow that a word on the command line stands for: a name in the library, or a file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from workflows_mcp.cli.failures import CommandError

if TYPE_CHECKING:
    from workflows_mcp.engine.finding import PlanFinder
    from workflows_mcp.engine.library import WorkflowLibrary
    from workflows_mcp.engine.plan import Plan

__all__ = ["check_calls", "find_plan", "is_file"]

_FILE_SUFFIXES = {".yaml", ".yml"}


def is_file(word: str) -> bool:
    """Whether a word names a file, be it there or not; else it is a workflow's name."""
    return os.sep in word or Path(word).suffix.lower() in _FILE_SUFFIXES or Path(word).is_file()


def find_plan(word: str, library: "WorkflowLibrary", finder: "PlanFinder") -> "Plan":
    """The workflow that a word stands for, checked as a whole.

    Args:
        word: A workflow's name, or a file's path.
        library: What the finder looks names up in.
        finder: Is told what a file holds, so that others can call it by its name.

    Raises:
        CommandError: There is no workflow of this name.
        WorkflowNotFoundError: There is no such file.
        WorkflowDefinitionError: It cannot run.
    """
    plan = finder.register(Path(word)) if is_file(word) else finder.find_named(word)
    if plan is None:
        raise _no_such_name(word, library)
    return plan


def check_calls(plan: "Plan", finder: "PlanFinder") -> None:
    """Make sure that what a workflow calls by name is there, and what that calls, too.

    Raises:
        WorkflowNotFoundError: Something is not.
        WorkflowDefinitionError: Something cannot run.
    """
    from workflows_mcp.engine.nested import NestedWorkflows

    NestedWorkflows.of(plan, finder.find_named)


def _no_such_name(name: str, library: "WorkflowLibrary") -> CommandError:
    return CommandError(
        f"there is no workflow {name!r} in the library; there are {', '.join(library.names())}. "
        f"WORKFLOWS_TEMPLATE_PATHS names the folders of your own ones; a file is named as ./{name}.yaml"
    )
