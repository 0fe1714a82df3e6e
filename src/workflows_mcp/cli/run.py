"""`run`: a workflow, to its end or to a question."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.finding import find_called, find_plan, open_finder
from workflows_mcp.cli.inputs import InputsFile, InputWords, gather_inputs
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, check_id
from workflows_mcp.cli.results import print_result
from workflows_mcp.cli.work import watched
from workflows_mcp.wiring import open_library

if TYPE_CHECKING:
    from workflows_mcp.engine.definition import WorkflowDefinition
    from workflows_mcp.engine.executor import WorkflowExecutor
    from workflows_mcp.engine.result import WorkflowResult

__all__ = ["run"]


async def run(
    workflow: Annotated[str, Parameter(name="WORKFLOW")],
    /,
    *,
    inputs: InputWords = None,
    inputs_file: InputsFile = None,
    run_id: str | None = None,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Run a workflow, to its end or to a question.

    Args:
        workflow: The workflow's YAML file, or its name in the library (`workflows list`). A file may call those of the
            library, and others beside it: NAME.yaml for the workflow NAME.
        inputs: An input of the workflow, as NAME=VALUE; once for each input. What is no text by its type (num, bool,
            list, dict) is given as JSON.
        inputs_file: A JSON or YAML file with inputs by name; --input wins over it.
        run_id: Names the run. One that there is already does not run again; its result is shown.
        options: What every command takes.

    Returns:
        0: it succeeded, or waits for an answer; 1: it failed, or somebody else is at it; 3: it was cancelled.
    """
    given = gather_inputs(inputs, inputs_file)
    if run_id is not None:
        check_id("--run-id", run_id)
    # Looked at before there is a database, so that a mistake in it does not leave a new one behind.
    definition, beside = _find(workflow, options)

    async def work(executor: "WorkflowExecutor") -> "WorkflowResult":
        for called in beside:
            executor.load_workflow(called)
        return await executor.execute_workflow(definition, given, run_id=run_id)

    async with open_store(options, create=True, memory=True) as store:
        result = await watched(
            store,
            work,
            options,
            idle=lambda result: f"run {result.run_id} is there already: nothing ran",
        )
        return await print_result(result, store, options)


def _find(word: str, options: Options) -> "tuple[WorkflowDefinition, list[WorkflowDefinition]]":
    """The workflow that a word stands for, and those that it calls from beside its file."""
    settings = options.settings()
    library = open_library(settings)
    finder = open_finder(library, settings)
    plan = find_plan(word, library, finder)
    return plan.definition, find_called(word, plan, finder)
