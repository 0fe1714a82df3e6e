"""Tools that look at workflows: which there are, what they want, whether a new one is right."""

import asyncio
import json
from typing import Annotated

from mcp_types import CallToolResult, ToolAnnotations
from pydantic import Field

from workflows_mcp.engine.json_schema import workflow_schema
from workflows_mcp.errors import WorkflowNotFoundError
from workflows_mcp.server.replies import cut, reply
from workflows_mcp.server.replies_workflows import (
    BlockReply,
    BrokenReply,
    InputReply,
    LibraryReply,
    OutputReply,
    ReloadReply,
    SchemaReply,
    ValidationReply,
    WorkflowReply,
    WorkflowRow,
    blocks_of,
    inputs_of,
    outputs_of,
)
from workflows_mcp.server.services import Services
from workflows_mcp.server.shelf import (
    Shelved,
    asks_a_human,
    broken_files,
    find_on_shelf,
    names_with_tags,
    why_not_found,
)
from workflows_mcp.server.texts import counted, list_lines, one_line
from workflows_mcp.server.tools.tool import READS, Call, Tool
from workflows_mcp.server.uris import WORKFLOW_URI, uri_of
from workflows_mcp.server.validating import validate_text

__all__ = ["TOOLS"]

_MOST_LISTED = 1000
_MOST_YAML = 50_000

WorkflowName = Annotated[str, Field(description="The workflow's name, as list_workflows has it.")]


async def list_workflows(
    call: Call,
    tags: Annotated[
        list[str] | None, Field(description="Only workflows that have all of these tags; null: all workflows.")
    ] = None,
    limit: Annotated[int, Field(ge=1, le=_MOST_LISTED, description="The most workflows to list.")] = 100,
) -> Annotated[CallToolResult, LibraryReply]:
    """List the workflows that execute_workflow can run by name, with what each is for and which inputs it takes.

    A workflow is a recipe of steps (blocks) that do something, ask a human, or run other workflows. Start here when you
    do not know what there is; get_workflow_info then tells all about one of them.
    """
    services = call.request_context.lifespan_context
    data = await asyncio.to_thread(_list, services, frozenset(tags or ()), limit)
    lines = [_line_of(row) for row in data.workflows]
    head = counted(data.total, "workflow") + (f" with {', '.join(tags)}" if tags else "")
    parts = [f"{head} (* means a required input):" if lines else f"{head}."]
    parts.append(list_lines(lines, "the structured content has them, and tags picks some out"))
    if data.total > len(data.workflows):
        parts.append(f"These are the first {len(data.workflows):,}: ask for more with limit, or for fewer with tags.")
    parts.append(_broken_text(data.broken))
    return reply(data, "\n".join(part for part in parts if part))


async def get_workflow_info(
    call: Call,
    *,
    workflow: WorkflowName,
    include_yaml: Annotated[bool, Field(description="Whether to give the workflow's YAML, too.")] = False,
) -> Annotated[CallToolResult, WorkflowReply]:
    """Tell all about one workflow: its inputs with types and defaults, its outputs, its blocks wave by wave.

    Also says whether it can run on this server, and whether it asks a human. Read it before execute_workflow, to know
    what to give.
    """
    services = call.request_context.lifespan_context
    data = await asyncio.to_thread(_look_at, services, workflow, include_yaml=include_yaml)
    return reply(data, _page_of(data))


async def get_workflow_schema(call: Call) -> Annotated[CallToolResult, SchemaReply]:
    """Give the JSON Schema of a workflow's YAML: all fields of a workflow and of its blocks, each with its meaning.

    Read it before you write or change a workflow; then check what you wrote with validate_workflow_yaml.
    """
    schema = workflow_schema(call.request_context.lifespan_context.settings.disabled_blocks)
    return reply(SchemaReply(json_schema=schema), json.dumps(schema, ensure_ascii=False))


async def validate_workflow_yaml(
    call: Call,
    yaml_content: Annotated[str, Field(description="The whole YAML of a workflow, as it would stand in its file.")],
) -> Annotated[CallToolResult, ValidationReply]:
    """Check a workflow's YAML as a whole, without running or saving anything.

    Gives every problem with its place, or says that it is valid, which inputs a run of it wants, and what is odd about
    it.
    """
    services = call.request_context.lifespan_context
    data = await services.reader.read(lambda: validate_text(services, yaml_content))
    if data.valid:
        wanted = ", ".join(one.in_short for one in data.inputs) or "none"
        parts = [f"Valid: workflow {data.name!r}. Inputs (* means required): {wanted}. Waves of blocks: "]
        parts[0] += "; then ".join(", ".join(wave) for wave in data.waves)
    else:
        parts = [f"Not valid, for {counted(len(data.problems), 'reason')}:"]
        parts.append(list_lines(one_line(problem, 1000) for problem in data.problems))
    if data.warnings:
        parts += ["Not wrong, but odd:", list_lines(data.warnings)]
    return reply(data, "\n".join(parts))


async def reload_workflows(call: Call) -> Annotated[CallToolResult, ReloadReply]:
    """Read the workflow folders anew, after files were added or removed, and tell what differs from before.

    A changed file is noticed without this; a new one is, once somebody asks for a name that was not known.
    """
    services = call.request_context.lifespan_context
    data = await asyncio.to_thread(_reload, services)
    changes = {"added": data.added, "changed": data.changed, "removed": data.removed}
    if any(changes.values()):
        # Those that subscribed to it; older clients were not promised to be told.
        await call.notify_resources_changed()
    told = [
        f"{what}: {', '.join(_with_problem(data, name) for name in names)}" for what, names in changes.items() if names
    ]
    text = f"There are {counted(data.total, 'workflow')} now. {'; '.join(told) if told else 'Nothing has changed'}."
    return reply(data, "\n".join(part for part in (text, _broken_text(data.broken)) if part))


def _list(services: Services, tags: frozenset[str], limit: int) -> LibraryReply:
    names = names_with_tags(services, tags)
    # Making one ready to run, to see whether it can, takes a hundred times as long as finding it.
    found = [one for name in names[:limit] if (one := find_on_shelf(services, name)) is not None]
    return LibraryReply(
        workflows=[WorkflowRow.model_validate(_row_of(services, one)) for one in found],
        total=len(names),
        broken=_broken(services),
    )


def _row_of(services: Services, found: Shelved) -> dict[str, object]:
    definition, library = found.definition, services.library
    return {
        "name": definition.name,
        "description": definition.description.strip(),
        "tags": list(definition.tags),
        "inputs": inputs_of(definition),
        "source": library.shown(library.source_of(definition.name)),
        "built_in": library.is_built_in(definition.name),
        "problem": found.problem,
    }


def _look_at(services: Services, name: str, *, include_yaml: bool) -> WorkflowReply:
    found = find_on_shelf(services, name)
    if found is None:
        raise WorkflowNotFoundError(why_not_found(services, name) or f"workflow {name!r} is there only now: ask again")
    definition = found.definition
    return WorkflowReply.model_validate(
        {
            **_row_of(services, found),
            "version": definition.version,
            "author": definition.author,
            "outputs": outputs_of(definition),
            "blocks": [] if found.plan is None else blocks_of(found.plan),
            "asks_a_human": asks_a_human(services, found),
            "uri": uri_of(WORKFLOW_URI, definition.name),
            "yaml": services.library.text_of(definition.name) if include_yaml else None,
        }
    )


def _reload(services: Services) -> ReloadReply:
    changes = services.library.reload()
    found = {name: find_on_shelf(services, name) for name in (*changes.added, *changes.changed)}
    return ReloadReply(
        added=list(changes.added),
        changed=list(changes.changed),
        problems={name: one.problem for name, one in found.items() if one is not None and one.problem is not None},
        removed=list(changes.removed),
        total=len(services.library.names()),
        broken=_broken(services),
    )


def _with_problem(data: ReloadReply, name: str) -> str:
    problem = data.problems.get(name)
    return name if problem is None else f"{name} (cannot run: {one_line(problem)})"


def _broken(services: Services) -> list[BrokenReply]:
    return [BrokenReply(file=file, problem=problem) for file, problem in broken_files(services).items()]


def _line_of(row: WorkflowRow) -> str:
    about = [f"inputs: {', '.join(one.in_short for one in row.inputs)}"] if row.inputs else []
    about += [f"tags: {', '.join(row.tags)}"] if row.tags else []
    about += [f"cannot run here: {one_line(row.problem)}"] if row.problem else []
    described = f"{row.name}: {one_line(row.description)}" if row.description else row.name
    return f"{described} ({'; '.join(about)})" if about else described


def _broken_text(broken: list[BrokenReply]) -> str:
    if not broken:
        return ""
    return "Broken files, which cannot be run:\n" + list_lines(f"{one.file}: {one_line(one.problem)}" for one in broken)


def _page_of(data: WorkflowReply) -> str:
    parts = [data.name, data.description] if data.description else [data.name]
    if data.problem is not None:
        parts.append(f"It cannot run on this server: {one_line(data.problem, 1000)}")
    if data.asks_a_human:
        parts.append("It asks a human: a run of it pauses, and resume_workflow takes the answer.")
    lists = {
        "Inputs": map(_about_input, data.inputs),
        "Outputs": map(_about_output, data.outputs),
        "Blocks, those of one wave at the same time": map(_about_block, data.blocks),
    }
    parts += [f"{what}:\n{text}" for what, lines in lists.items() if (text := list_lines(lines))]
    if data.yaml is not None:
        parts.append(f"YAML:\n{cut(data.yaml, 'the structured content has all of it', most=_MOST_YAML)}")
    return "\n\n".join(parts)


def _about_input(one: InputReply) -> str:
    fate = "required" if one.required else f"default: {one_line(json.dumps(one.default, ensure_ascii=False))}"
    return f"{one.name} ({one.type}, {fate}) {one_line(one.description)}".rstrip()


def _about_output(one: OutputReply) -> str:
    return f"{one.name} ({one.type or 'any type'}) {one_line(one.description)}".rstrip()


def _about_block(one: BlockReply) -> str:
    after = f", after {', '.join(one.depends_on)}" if one.depends_on else ""
    runs = f" that runs workflow {one.calls}" if one.calls else ""
    return f"wave {one.wave}: {one.id} ({one.type}{runs}{after}) {one_line(one.description)}".rstrip()


TOOLS = (
    Tool(list_workflows, "List workflows", READS),
    Tool(get_workflow_info, "Look at a workflow", READS),
    Tool(get_workflow_schema, "Get the schema of workflows", READS),
    Tool(validate_workflow_yaml, "Check a workflow", READS),
    Tool(
        reload_workflows,
        "Reload workflows",
        ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False),
    ),
)
