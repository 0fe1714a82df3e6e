"""What a model must know to write a workflow: the language in short, made of the code that checks and runs it."""

from collections.abc import Collection, Iterator
from typing import Any

from workflows_mcp.engine.blocks import BLOCK_TYPES, BlockType, block_type_names
from workflows_mcp.engine.definition import MAX_BLOCKS, NAME_RULE
from workflows_mcp.engine.items import MAX_ITEMS
from workflows_mcp.engine.json_schema import workflow_schema

__all__ = ["authoring_guide"]

_GUIDE = """\
# Write a workflow

The task: {task}

## How

1. Look (list_workflows, get_workflow_info) whether there is a workflow for it, or one that a Workflow block can run.
2. Write the YAML and call validate_workflow_yaml, until it finds nothing.
3. {run}
4. When a run is paused, a human must answer; never make up an answer. Pass it on with resume_workflow. Of a run that
   failed, `error` says why.

## The file

YAML 1.2: `yes`, `no`, `on` and dates are text. {name_rule}; only the workflow's own may have hyphens. Other keys than
these are errors; those with a star are required.

A workflow: {workflow}
An input: {input}
An output: {output}; or an expression alone
A block (at most {most_blocks:,}): {block}
`retries`: a number, or {retries}
`outputs` of a block: by name, {files}

Blocks run in waves: each as soon as all in its depends_on are over, those of one wave at the same time. When a block
fails or is skipped, those that depend on it are skipped, but for those that do so with {{block: ID, required:
false}}. A block that fails makes the run a failure unless it has continue_on_error, or such a dependent. State is
saved after each wave; after a crash, what was not saved runs again, so a block must bear to run twice.

## Block types and their inputs

{block_types}

## Expressions

Any text in inputs, condition, for_each and outputs may hold {{{{ … }}}}: a Jinja2 expression, no {{% … %}}. A text
that is one expression keeps the type of its value. There are inputs.NAME; blocks.ID.outputs.NAME;
blocks.ID.succeeded, .failed, .skipped; blocks.ID.metadata.message. With for_each (at most {most_items:,} items):
each.key, each.value and each.index in the block, and later blocks.ID['KEY'].outputs.NAME, where the keys of a list
are '0', '1', …; blocks.ID.metadata.count. In block inputs: secrets.NAME, tmp (a folder of the run's own). Filters:
default, join, length, map, selectattr, tojson, trim, shquote, fail and most of Jinja2's.

## Example

```yaml
{example}```

## Common mistakes

- Reading a block without waiting for it: add it to depends_on.
- Reading an output of a block that may be skipped: write `| default('', true)`, and depend on it with required: false.
{mistakes}- A colon and a space, or {{{{ }}}}, in a text without quotes around it. Quote all expressions.
- `if`, `for` or `set`: use condition and for_each.
"""

_RUN_INLINE = "Run it with execute_inline_workflow. To keep it, have it saved in {folder}, and call reload_workflows."
_RUN_FROM_FILE = (
    "This server runs no workflow that is sent to it: have it saved in {folder}, call reload_workflows, and "
    " run it with execute_workflow."
)

_EXAMPLE = """\
name: tidy-folders
description: Counts the files of some folders, and removes what a human approves
inputs:
  folders: {type: list, description: The folders}
blocks:
  - id: count
    type: Shell
    for_each: "{{ inputs.folders }}"
    inputs: {command: "find {{ each.value | shquote }} -type f | wc -l", timeout_seconds: 60}
  - id: approve
    type: Prompt
    depends_on: [count]
    inputs:
      prompt: "Remove {{ inputs.folders | join(', ') }}? {{ blocks.count['0'].outputs.stdout | int }} files and more."
      choices: [remove, keep]
  - id: remove
    type: Shell
    depends_on: [approve]
    condition: "{{ blocks.approve.outputs.response == 'remove' }}"
    inputs: {command: "rm -r -- {{ inputs.folders | map('shquote') | join(' ') }}"}
outputs:
  removed: "{{ blocks.remove.succeeded }}"
"""

_EXAMPLE_WITHOUT_SHELL = """\
name: plan-trip
description: Asks where to go and, unless it is home, asks several people for their approval
inputs:
  people: {type: list, description: Who must approve}
blocks:
  - id: where
    type: Prompt
    inputs: {prompt: "Where to?", choices: [Rome, Oslo, home]}
  - id: approval
    type: Workflow
    depends_on: [where]
    condition: "{{ blocks.where.outputs.response != 'home' }}"
    inputs:
      workflow: group-approval
      inputs: {action: "Travel to {{ blocks.where.outputs.response }}", approvers: "{{ inputs.people }}"}
outputs:
  place: "{{ blocks.where.outputs.response }}"
  approved: "{{ blocks.approval.outputs.approved | default(false, true) }}"
"""

_SHELL_MISTAKE = (
    "- Values in a command without a shell's quotes: write `{{ inputs.path | shquote }}`, or pass them in `env`.\n"
)


def authoring_guide(
    task: str, *, disabled_blocks: Collection[str] = (), inline: bool = True, folders: Collection[str] = ()
) -> str:
    """What a model must know to write a workflow that does something.

    Args:
        task: What the workflow is to do, in anybody's words.
        disabled_blocks: The block types that workflows may not use here; they are not spoken of.
        inline: Whether workflows may be run that are no files of the library.
        folders: What the folders of the library are called.
    """
    has_shell = "Shell" not in disabled_blocks
    named = f" ({', '.join(folders)})" if folders else ""
    definitions = workflow_schema()
    models = definitions["$defs"]
    return _GUIDE.format(
        task=" ".join(task.split()) or "not told yet; ask what the workflow is to do",
        run=(_RUN_INLINE if inline else _RUN_FROM_FILE).format(folder=f"a folder of the library{named}"),
        name_rule=NAME_RULE[0].upper() + NAME_RULE[1:],
        workflow=_keys(definitions),
        input=_keys(models["InputDefinition"]),
        output=_keys(models["OutputDefinition"]),
        block=_keys(models["BlockDefinition"]),
        retries=_keys(models["RetryPolicy"]),
        files=_keys(models["FileOutput"]),
        block_types="\n".join(_block_types(models, disabled_blocks)),
        example=_EXAMPLE if has_shell else _EXAMPLE_WITHOUT_SHELL,
        mistakes=_SHELL_MISTAKE if has_shell else "",
        most_blocks=MAX_BLOCKS,
        most_items=MAX_ITEMS,
    )


def _keys(schema: dict[str, Any]) -> str:
    """The keys of a mapping with what its schema says of each; one that is required bears a star."""
    whole = schema["anyOf"][-1] if "anyOf" in schema else schema  # beside an abbreviation stands the whole
    required = whole.get("required", ())
    return "; ".join(
        f"{name}{'*' if name in required else ''}{_meaning(described)}"
        for name, described in whole["properties"].items()
    )


def _meaning(described: dict[str, Any]) -> str:
    """What is said of a key, in parentheses, with the values that it may have; nothing when its name says it all."""
    meaning = described["description"].rstrip(".")
    values = [value for value in described.get("enum", ()) if f"`{value}`" not in meaning]
    return "" if meaning == "For people" else f" ({' or '.join(values)}{': ' if values else ''}{meaning})"


def _block_types(models: dict[str, Any], disabled: Collection[str]) -> Iterator[str]:
    """A line for each block type that can be used."""
    for name in block_type_names():
        if name not in disabled:
            block_type = BLOCK_TYPES[name]
            schema = models.get(block_type.inputs.__name__)
            inputs = _fields(block_type) if schema is None else _keys(schema)
            outputs = ", ".join(sorted(block_type.output_names or ())) or "what it gives"
            yield f"- {name}: {inputs or 'no inputs'}. Outputs: {outputs}"


def _fields(block_type: BlockType[Any]) -> str:
    """The inputs of a block type that somebody else has made; nobody says what they mean."""
    fields = block_type.inputs.model_fields
    return ", ".join(f"{name}{'*' if field.is_required() else ''}" for name, field in fields.items())
