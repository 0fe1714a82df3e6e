"""What the tools answer that look at workflows."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from workflows_mcp.engine.definition import WorkflowDefinition
from workflows_mcp.engine.plan import Plan

__all__ = [
    "BlockReply",
    "BrokenReply",
    "InputReply",
    "LibraryReply",
    "OutputReply",
    "ReloadReply",
    "SchemaReply",
    "ValidationReply",
    "WorkflowReply",
    "WorkflowRow",
    "blocks_of",
    "inputs_of",
    "outputs_of",
]


class InputReply(BaseModel):
    """An input of a workflow."""

    name: Annotated[str, Field(description="Its name, for `inputs` of execute_workflow.")]
    type: Annotated[str, Field(description="str, num, bool, list or dict.")]
    required: Annotated[bool, Field(description="Whether a run cannot begin without it.")]
    description: Annotated[str, Field(description="What it is for.")] = ""
    default: Annotated[
        Any, Field(description="What it is when it is not given; may be an expression, {{ … }}; null: there is none.")
    ] = None

    @property
    def in_short(self) -> str:
        """For a line of a list: its name with a star if it is required."""
        return f"{self.name}{'*' if self.required else ''}"


class OutputReply(BaseModel):
    """An output of a workflow."""

    name: Annotated[str, Field(description="Its name in the outputs of a run.")]
    type: Annotated[str | None, Field(description="str, num, bool, list or dict; null: any.")]
    description: Annotated[str, Field(description="What it says.")]


class BlockReply(BaseModel):
    """A block: one step of a workflow."""

    id: Annotated[str, Field(description="Its name in the workflow.")]
    type: Annotated[str, Field(description="Its type, such as Prompt, which asks a human.")]
    wave: Annotated[int, Field(description="Blocks of one wave run at the same time; waves one after the other.")]
    description: Annotated[str, Field(description="What it does.")]
    depends_on: Annotated[list[str], Field(description="The blocks that it waits for.")]
    calls: Annotated[str | None, Field(description="The workflow that it runs, where that is written out.")]


class WorkflowRow(BaseModel):
    """A workflow in a list."""

    name: Annotated[str, Field(description="Its name, for execute_workflow and get_workflow_info.")]
    description: Annotated[str, Field(description="What it is for.")]
    tags: Annotated[list[str], Field(description="For finding it.")]
    inputs: Annotated[list[InputReply], Field(description="What a run is given.")]
    source: Annotated[str, Field(description="The file that it is read from, within the server's workflow folders.")]
    built_in: Annotated[bool, Field(description="Whether it comes along with the server.")]
    problem: Annotated[str | None, Field(description="Why it cannot run on this server; null: it can.")] = None


class BrokenReply(BaseModel):
    """A file, or a folder, that could not be read as a workflow."""

    file: Annotated[str, Field(description="Which file, within the server's workflow folders.")]
    problem: Annotated[str, Field(description="What is wrong with it.")]


class LibraryReply(BaseModel):
    """The workflows that can be run by name."""

    workflows: Annotated[list[WorkflowRow], Field(description="In alphabetical order.")]
    total: Annotated[int, Field(description="How many there are that were asked for; the list may hold fewer.")]
    broken: Annotated[list[BrokenReply], Field(description="Files that define no workflow; all others can be run.")]


class WorkflowReply(WorkflowRow):
    """A workflow as a whole."""

    version: Annotated[str, Field(description="For people.")]
    author: Annotated[str, Field(description="For people.")]
    outputs: Annotated[list[OutputReply], Field(description="What a run gives back.")]
    blocks: Annotated[list[BlockReply], Field(description="Its steps, wave by wave.")]
    asks_a_human: Annotated[bool, Field(description="Whether a block of its own pauses the run to ask a human.")]
    uri: Annotated[str, Field(description="The resource that holds its YAML.")]
    yaml: Annotated[str | None, Field(description="Its YAML, if it was asked for.")] = None


class SchemaReply(BaseModel):
    """The language of workflows."""

    json_schema: Annotated[
        dict[str, Any], Field(description="The JSON Schema (draft 2020-12) that a workflow's YAML must fit.")
    ]


class ValidationReply(BaseModel):
    """What is wrong with a workflow's YAML."""

    valid: Annotated[bool, Field(description="Whether it can run as it is.")]
    name: Annotated[str | None, Field(description="The workflow's name, if it has one.")]
    problems: Annotated[list[str], Field(description="All that keeps it from running, each with its place.")]
    warnings: Annotated[list[str], Field(description="What is odd, and does not keep it from running.")]
    inputs: Annotated[list[InputReply], Field(description="What a run of it would have to be given.")]
    waves: Annotated[list[list[str]], Field(description="Ids of blocks; those of one wave run at the same time.")]


class ReloadReply(BaseModel):
    """How the workflows differ from what they were."""

    added: Annotated[list[str], Field(description="Names that can be run now, and could not before.")]
    changed: Annotated[list[str], Field(description="Names whose workflow is another one now.")]
    problems: Annotated[
        dict[str, str], Field(description="Why those of added and changed that cannot run on this server cannot.")
    ]
    removed: Annotated[list[str], Field(description="Names that cannot be run any more.")]
    total: Annotated[int, Field(description="How many workflows there are now.")]
    broken: Annotated[list[BrokenReply], Field(description="Files that define no workflow.")]


def inputs_of(definition: WorkflowDefinition) -> list[InputReply]:
    """The inputs of a workflow, in its order."""
    return [
        InputReply(
            name=name, type=one.type, required=one.is_required, description=one.description.strip(), default=one.default
        )
        for name, one in definition.inputs.items()
    ]


def outputs_of(definition: WorkflowDefinition) -> list[OutputReply]:
    """The outputs of a workflow, in its order."""
    return [
        OutputReply(name=name, type=one.type, description=one.description.strip())
        for name, one in definition.outputs.items()
    ]


def blocks_of(plan: Plan) -> list[BlockReply]:
    """The blocks of a workflow, wave by wave."""
    replies = []
    for index, wave in enumerate(plan.waves, 1):
        for block_id in wave:
            block = plan.blocks[block_id]
            replies.append(
                BlockReply(
                    id=block_id,
                    type=block.definition.type,
                    wave=index,
                    description=block.definition.description.strip(),
                    depends_on=[one.block for one in block.definition.depends_on],
                    calls=block.nested_name,
                )
            )
    return replies
