"""What users build on, as text: names, signatures, errors, commands, settings.

`tests/public_api.txt` holds it as it was when it was last looked at, so that a change is seen by whoever reads the
change. Write it anew with: python3 run.py python -m tests.public_api
"""

import dataclasses
import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from cyclopts import App
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from tests.documents.words import PRODUCT, arguments_of, product_commands
from workflows_mcp.settings import Settings

__all__ = ["FILE", "PUBLIC", "describe"]

FILE = Path(__file__).with_suffix(".txt")

PUBLIC = {
    "workflows_mcp": "*",
    "workflows_mcp.engine.blocks": "BlockContext BlockFailedError BlockInputs BlockType Call Pause block_type register",
    "workflows_mcp.engine.checkpoint": "CheckpointConfig CheckpointMetadata CheckpointState",
    "workflows_mcp.engine.checkpoint_store": "CheckpointStore InMemoryCheckpointStore",
    "workflows_mcp.engine.events": (
        "BlockFinished BlockSkipped BlockStarted CheckpointSaved Event EventCallback "
        "RunEnded RunPaused RunStarted RunStopped WaveFinished WaveStarted"
    ),
    "workflows_mcp.engine.executor": "WorkflowExecutor",
    "workflows_mcp.engine.retention": "RetentionTask",
    "workflows_mcp.settings": "Settings load_settings",
    "workflows_mcp.telemetry": "*",
    "workflows_mcp.testing": "*",
}
"""From where which names may be imported; `*`: all that the module says it has."""

_HIDDEN = ("_", "test_", "pytestmark")
_SHOWN = ("__aenter__", "__aexit__")


def describe() -> str:
    """All of it, a line for each thing that somebody may rely on."""
    parts = [f"# {line}" for line in (__doc__ or "").strip().splitlines()]
    described: set[str] = set()
    for path in PUBLIC:
        module = importlib.import_module(path)
        names = names_of(module)
        parts += ["", f"from {path} import {', '.join(names)}"]
        for name in names:
            if name not in described:
                parts += ["", *_describe(name, getattr(module, name))]
        described.update(names)
    arguments = {words: list(_arguments(app)) for words, app in sorted(product_commands().items())}
    every = [
        line for line in arguments[PRODUCT, "doctor"] if all(line in lines for lines in arguments.values() if lines)
    ]
    parts += ["", f"{PRODUCT}, every command", *(f"    {line}" for line in every)]
    for words, lines in arguments.items():
        parts += ["", " ".join(words), *(f"    {line}" for line in lines if line not in every)]
    parts += ["", "settings", *(f"    {line}" for line in _settings())]
    return "\n".join(line.rstrip() for line in parts) + "\n"


def names_of(module: ModuleType) -> list[str]:
    """The public names of a module."""
    names = PUBLIC[module.__name__]
    return sorted(module.__all__ if names == "*" else names.split())


def _describe(name: str, thing: Any) -> Iterator[str]:
    if not inspect.isclass(thing):
        yield _call(name, thing) if inspect.isfunction(thing) else f"{name} = {_short(repr(thing))}"
        return
    yield f"class {name}({', '.join(base.__name__ for base in thing.__bases__)})"
    if issubclass(thing, enum.Enum):
        yield from (f"    {member.name} = {member.value!r}" for member in thing)
    elif thing is Settings:
        yield from (f"    {field}" for field in thing.model_fields)
    elif not issubclass(thing, Exception) or "__init__" in vars(thing):
        inherited = {line for base in thing.__mro__[1:] for line in _members(base)}
        lines = (line for line in _members(thing) if line not in inherited)
        yield from (f"    {line}" for line in (_call(name, thing), *lines))


def _members(kind: type) -> Iterator[str]:
    """What an object of a class has besides what it is made of; of what it inherits, what this project has made."""
    outside = {name for base in (object, BaseModel, Exception) for name in dir(base)}
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    for name in sorted(set(dir(kind)) - outside - fields):
        member = inspect.getattr_static(kind, name)
        if not kind.__module__.startswith("workflows_mcp") or (name.startswith(_HIDDEN) and name not in _SHOWN):
            continue
        if isinstance(member, property):
            yield f"{name}: {_annotation(inspect.signature(member.fget).return_annotation)}"  # type: ignore[arg-type]
        elif isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
            yield _call(name, getattr(kind, name))
        else:
            yield name


def _call(name: str, thing: Any) -> str:
    is_async = "async " if inspect.iscoroutinefunction(inspect.unwrap(thing)) else ""
    return f"{is_async}{name}{_short(str(inspect.signature(thing)))}"


def _annotation(annotation: Any) -> str:
    return _short(inspect.formatannotation(annotation))


def _short(text: str) -> str:
    """Without the modules that things come from, and alike in all versions of Python."""
    text = re.sub(
        r"\b(?:workflows_mcp|collections\.abc|typing|pathlib|pydantic|sqlalchemy)(?:\.\w+)*\.(?=\w)", "", text
    )
    text = re.sub(r"<(\w+)\.(\w+): [^>]*>", r"\1.\2", text)
    text = re.sub(r"<function (\w+) at 0x\w+>", r"\1", text)
    text = re.sub(r"((?:: |-> ))'([^']*)'", r"\1\2", text)
    return re.sub(r"Optional\[((?:[^\[\]]|\[[^\[\]]*\])*)\]", r"\1 | None", text)


def _arguments(app: App) -> Iterator[str]:
    for argument in arguments_of(app):
        if not argument.parse or argument.names == ("*",):
            continue
        values = argument.get_choices() or [_annotation(argument.hint)]
        must = "" if argument.required else f" = {argument.field_info.default!r}"
        yield f"{' '.join(dict.fromkeys((*argument.names, *argument.negatives)))}: {' | '.join(values)}{must}"


def _settings() -> Iterator[str]:
    for name, field in sorted(Settings.model_fields.items()):
        alias = field.validation_alias
        variables = [f"WORKFLOWS_{name.upper()}"] if alias is None else map(str, getattr(alias, "choices", [alias]))
        default = "" if field.default is PydanticUndefined else f" = {field.default!r}"
        yield f"{' or '.join(variables)}: {_annotation(field.annotation)}{default}"


if __name__ == "__main__":
    FILE.write_text(describe())
