"""The language of workflows as a JSON Schema, for editors and other programs.

It is made of the models that workflows are checked with, and of their docstrings, so it says what they say. What
needs the workflow as a whole to be known (whether an id exists, what an expression reads) it does not check.

`python -m workflows_mcp.engine.json_schema` prints it.
"""

import inspect
import json
import re
import sys
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from workflows_mcp.engine.blocks.block import BlockType
from workflows_mcp.engine.blocks.prompt import Prompt
from workflows_mcp.engine.blocks.shell import Shell
from workflows_mcp.engine.blocks.workflow import Workflow
from workflows_mcp.engine.definition import WorkflowDefinition

__all__ = ["schema_text", "workflow_schema"]

_BLOCK_TYPES: tuple[type[BlockType[Any]], ...] = (Prompt, Shell, Workflow)
"""Those that come along: a schema that others are part of would depend on what is installed."""

_EXPRESSION = {"type": "string", "pattern": r"\{\{", "description": "A text with an expression, {{ … }}."}

_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)


def workflow_schema(without: Collection[str] = ()) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a workflow's file.

    It knows the block types that come along; others may have any inputs.

    Args:
        without: Names of block types that it is not to tell of.
    """
    block_types = [block_type for block_type in _BLOCK_TYPES if block_type.name not in without]
    schema = WorkflowDefinition.model_json_schema(schema_generator=_Generator)
    definitions = schema["$defs"]
    definitions["Expression"] = _EXPRESSION
    block = definitions["BlockDefinition"]
    names = [block_type.name for block_type in block_types]
    block["properties"]["type"] |= {"type": "string", "anyOf": [{"enum": names}, True]}
    block["dependentRequired"] = {"for_each_mode": ["for_each"], "max_parallel": ["for_each"]}
    block["allOf"] = []
    for block_type in block_types:
        model = block_type.inputs
        definitions[model.__name__] = _with_expressions(model.model_json_schema(schema_generator=_Generator))
        then: dict[str, Any] = {"properties": {"inputs": {"$ref": f"#/$defs/{model.__name__}"}}}
        if any(field.is_required() for field in model.model_fields.values()):
            then["required"] = ["inputs"]
        is_such = {"properties": {"type": {"const": block_type.name}}, "required": ["type"]}
        block["allOf"].append({"if": is_such, "then": then})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Workflow", **schema}


def schema_text() -> str:
    """The schema as it stands in a file."""
    return json.dumps(workflow_schema(), indent=2, ensure_ascii=False) + "\n"


class _Generator(GenerateJsonSchema):
    """Takes descriptions from docstrings, and leaves out what only repeats the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - pydantic's signature
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        made.pop("title", None)
        summary, attributes = _documented(schema["cls"])
        made["description"] = summary
        for name, described in made["properties"].items():
            if described.get("default", ...) is None:
                del described["default"]
            described["description"] = attributes[name]
        return made

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        made = super().dict_schema(schema)
        return {**made, "additionalProperties": False} if "patternProperties" in made else made


def _documented(model: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """What a model's docstring says of it, and of each of its attributes."""
    text = inspect.getdoc(model) or ""
    about, _, attributes = text.partition("\n\nAttributes:\n")
    found = {name: _in_yaml(said) for name, said in _ATTRIBUTE.findall(attributes)}
    return _in_yaml(about), found


def _in_yaml(text: str) -> str:
    """A docstring's text in one line, and in the words of those who write YAML."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()))


def _with_expressions(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a block type's inputs, each of which may also be an expression that gives it."""
    for name, described in schema["properties"].items():
        kinds = described.get("type", ())
        if "string" not in ([kinds] if isinstance(kinds, str) else kinds):
            description = described.pop("description")
            either = described["anyOf"] if described.keys() == {"anyOf"} else [described]
            expression = {"$ref": "#/$defs/Expression"}
            schema["properties"][name] = {"anyOf": [*either, expression], "description": description}
    return schema


if __name__ == "__main__":
    sys.stdout.write(schema_text())
