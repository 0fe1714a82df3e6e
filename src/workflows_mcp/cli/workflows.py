"""`workflows list`, `show`, `validate`, `schema`: what can be run."""

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from workflows_mcp.cli.failures import EXIT_ERROR, CommandError, one_line
from workflows_mcp.cli.finding import find_called, find_plan, is_file, open_finder
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options
from workflows_mcp.cli.page import Page, print_json, say
from workflows_mcp.wiring import open_library

if TYPE_CHECKING:
    from workflows_mcp.engine.library import WorkflowLibrary
    from workflows_mcp.engine.plan import Plan
    from workflows_mcp.settings import Settings

__all__ = ["list_command", "schema_command", "show_command", "validate_command"]

_MOST_DESCRIPTION = 60
_BUILT_IN = "built in"


def list_command(
    *,
    tags: Annotated[list[str] | None, Parameter(name="--tag", negative=())] = None,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """List the workflows of the library: those that come along, and those in the folders of WORKFLOWS_TEMPLATE_PATHS.

    Args:
        tags: Only those with this tag; with several, only those that have them all.
        options: What every command takes.

    Returns:
        0, also when files are broken; these are named on stderr.
    """
    settings = options.settings()
    library = open_library(settings)
    wanted = set(tags or ())
    found = [definition for name in library.names() if (definition := library.find(name)) is not None]
    rows = [
        {
            "name": one.name,
            "description": one.description,
            "version": one.version,
            "author": one.author,
            "tags": list(one.tags),
            "source": str(library.source_of(one.name)),
            "built_in": library.is_built_in(one.name),
        }
        for one in found
        if wanted <= set(one.tags)
    ]
    broken = {str(path): problem for path, problem in library.broken.items()}
    if options.json:
        print_json({"workflows": rows, "broken": broken})
        return 0
    page = Page(sys.stdout)
    if rows:
        columns = ["name", "description", "tags"]
        sources = [_BUILT_IN if row["built_in"] else str(row["source"]) for row in rows]
        page.table(
            [*columns, "source"],
            [[*(_cell(row[column]) for column in columns), source] for row, source in zip(rows, sources, strict=True)],
        )
        if not settings.template_paths and not wanted:
            page.line("\nWorkflows of your own are YAML files in the folders that WORKFLOWS_TEMPLATE_PATHS names.")
    else:
        page.line(f"There is no workflow with {'these tags' if len(wanted) > 1 else 'this tag'}.")
    sys.stdout.flush()
    for path, problem in broken.items():
        say(one_line(f"broken: {_with_path(path, problem)}"))
    return 0


def show_command(workflow: Annotated[str, Parameter(name="WORKFLOW")], /, *, options: Options = DEFAULT_OPTIONS) -> int:
    """Show a workflow: its inputs, its blocks wave by wave, its outputs.

    Args:
        workflow: The workflow's YAML file, or its name in the library.
        options: What every command takes.

    Returns:
        0.
    """
    from workflows_mcp.engine.finding import PlanFinder

    library = open_library(options.settings())
    plan = find_plan(workflow, library, PlanFinder(library))
    source = _source_of(workflow, library)
    is_built_in = not is_file(workflow) and library.is_built_in(workflow)
    if options.json:
        print_json({"source": source, "built_in": is_built_in, "definition": plan.data, "waves": plan.wave_lists})
        return 0
    page = Page(sys.stdout)
    definition = plan.definition
    page.line(definition.name, style="bold")
    if definition.description:
        page.prose(definition.description.strip())
    about = {"version": definition.version, "author": definition.author, "tags": ", ".join(definition.tags)}
    for name, value in {**about, "source": _BUILT_IN if is_built_in else source}.items():
        if value:
            page.line(f"{name}: {one_line(value)}")
    _show_inputs(page, plan)
    _show_blocks(page, plan)
    if definition.outputs:
        page.heading("outputs")
        rows = [[name, _in_short(one.value), _cell(one.description)] for name, one in definition.outputs.items()]
        page.table(["output", "value", "description"], rows)
    return 0


def validate_command(
    workflows: Annotated[list[str], Parameter(name="WORKFLOW")], /, *, options: Options = DEFAULT_OPTIONS
) -> int:
    """Check workflows as a whole, each as `run` finds it and what it calls here; nothing runs.

    Args:
        workflows: YAML files, or names in the library.
        options: What every command takes.

    Returns:
        0: all of them can run; 1: one of them cannot. What is wrong stands on stderr.
    """
    settings = options.settings()
    library = open_library(settings)
    checked = {word: _check(word, library, settings) for word in workflows}
    is_fine = all(flaw is None for _, flaw in checked.values())
    if options.json:
        rows = [{"workflow": word, "name": name, "problem": flaw} for word, (name, flaw) in checked.items()]
        print_json({"workflows": rows})
        return 0 if is_fine else EXIT_ERROR
    for word, (name, flaw) in checked.items():
        if flaw is None:
            sys.stdout.write(f"{one_line(word)}: fine, workflow {one_line(str(name))}\n")
            sys.stdout.flush()
        else:
            say(f"error: {one_line(_with_path(word, flaw))}")
    return 0 if is_fine else EXIT_ERROR


def _check(word: str, library: "WorkflowLibrary", settings: "Settings") -> tuple[str | None, str | None]:
    """The name of the workflow that a word stands for, and what is wrong with it."""
    from workflows_mcp.errors import WorkflowsError

    finder = open_finder(library, settings)  # of its own: `run` does not know of the other words either
    name = None
    try:
        plan = find_plan(word, library, finder)
        name = plan.definition.name
        find_called(word, plan, finder)
    except (WorkflowsError, CommandError) as error:
        return name, str(error)
    return name, None


def schema_command(*, options: Options = DEFAULT_OPTIONS) -> int:  # noqa: ARG001 - every command takes them
    """Print the JSON schema of a workflow's file, for editors.

    Args:
        options: What every command takes.

    Returns:
        0.
    """
    from workflows_mcp.engine.json_schema import workflow_schema

    print_json(workflow_schema())
    return 0


def _source_of(word: str, library: "WorkflowLibrary") -> str:
    return word if is_file(word) else str(library.source_of(word))


def _show_inputs(page: Page, plan: "Plan") -> None:
    inputs = plan.definition.inputs
    if not inputs:
        return
    page.heading("inputs")
    rows = [
        [
            name,
            one.type,
            "required" if one.is_required else f"default: {_in_short(one.default)}" if one.has_default else "optional",
            _cell(one.description),
        ]
        for name, one in inputs.items()
    ]
    page.table(["input", "type", "", "description"], rows)


def _show_blocks(page: Page, plan: "Plan") -> None:
    page.heading("blocks")
    rows = []
    for index, wave in enumerate(plan.waves, 1):
        for block_id in wave:
            block = plan.blocks[block_id].definition
            needs = ", ".join(
                dependency.block if dependency.required else f"({dependency.block})" for dependency in block.depends_on
            )
            rows.append(
                [str(index), block_id, block.type, needs, _traits(plan.block_data[block_id]), _cell(block.description)]
            )
    page.table(["wave", "block", "type", "needs", "", "description"], rows)


def _traits(block: Mapping[str, Any]) -> str:
    """What else stands in a block's definition than what every block has."""
    common = {"id", "type", "description", "inputs", "depends_on", "outputs"}
    return ", ".join(f"{name}: {_in_short(value)}" for name, value in block.items() if name not in common)


def _in_short(value: object) -> str:
    return _cell(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _cell(value: object) -> str:
    text = " ".join((", ".join(value) if isinstance(value, list) else str(value)).split())
    return text if len(text) <= _MOST_DESCRIPTION else f"{text[: _MOST_DESCRIPTION - 1]}…"


def _with_path(path: str, problem: str) -> str:
    return problem if path in problem else f"{path}: {problem}"
