"""The inputs of a run, as they are typed or stand in a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from workflows_mcp.cli.failures import CommandError, UsageError

__all__ = ["InputWords", "InputsFile", "gather_inputs"]

InputWords = Annotated[list[str] | None, Parameter(name="--input", negative=(), allow_leading_hyphen=True)]
"""What was typed after each `--input`."""

InputsFile = Annotated[Path | None, Parameter(name="--inputs")]
"""What was typed after `--inputs`."""


def gather_inputs(words: Sequence[str] | None, file: Path | None) -> dict[str, Any]:
    """The inputs that were given; a typed one wins over the one in the file.

    What was typed is text here, and becomes what its input's type says when the run begins.

    Args:
        words: What was typed, as `NAME=VALUE`.
        file: A JSON or YAML file with a mapping of inputs by name.

    Raises:
        UsageError: A word is not of this form, or an input was typed twice.
        CommandError: The file cannot be read, or holds something else.
    """
    typed = _parse_words(words or ())
    return typed if file is None else {**_read_file(file), **typed}


def _parse_words(words: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise UsageError(f"--input takes NAME=VALUE, and {word!r} is not of that form")
        if name in given:
            raise UsageError(f"--input {name}=… was given twice")
        given[name] = value
    return given


def _read_file(path: Path) -> dict[str, Any]:
    from workflows_mcp.engine.yaml_text import YAMLTextError, parse_yaml

    # YAML does not take every JSON: tabs, for one, indent nothing there.
    parse = json.loads if path.suffix.lower() == ".json" else parse_yaml
    try:
        found = parse(path.read_text("utf-8-sig"))
    except OSError as error:
        raise CommandError(f"the inputs file {str(path)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{path}: it is not UTF-8 text; save it as UTF-8") from None
    except YAMLTextError as error:
        raise CommandError(f"{path}: {error}") from None
    except json.JSONDecodeError as error:
        raise CommandError(f"{path}: line {error.lineno}: it is no JSON: {error.msg}") from None
    except RecursionError:
        raise CommandError(f"{path}: it is nested too deeply") from None
    if not isinstance(found, dict):
        raise CommandError(f"{path}: the inputs are a mapping of values by name")
    return found
