"""Outputs of a block that are read from the files which it wrote."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflows_mcp.engine.blocks import BlockFailedError
from workflows_mcp.engine.definition import FileOutput
from workflows_mcp.engine.values import coerce_value

__all__ = ["MAX_FILE_OUTPUT_BYTES", "read_outputs"]

MAX_FILE_OUTPUT_BYTES = 2**22
"""The largest file that is read as an output."""

_MAX_PATH = 4096  # what Linux takes; a longer one would fill messages


def read_outputs(declared: Mapping[str, FileOutput], paths: Mapping[str, Any], working_dir: object) -> dict[str, Any]:
    """Read the files.

    Args:
        declared: What each output is read as, by name.
        paths: The paths by name, their expressions evaluated.
        working_dir: Where relative paths count from; if it is no text, where this process is.

    Raises:
        BlockFailedError: A file is not there or cannot be read, is too large, or is not of its type.
    """
    return {name: _read(output, f"outputs.{name}", paths[name], working_dir) for name, output in declared.items()}


def _read(output: FileOutput, where: str, path: object, working_dir: object) -> Any:  # noqa: ANN401 - JSON data
    if not isinstance(path, str) or not path or "\0" in path or len(path) > _MAX_PATH:
        raise BlockFailedError(f"{where}.path: it is no path of a file")
    file = Path(working_dir if isinstance(working_dir, str) else "") / path
    try:
        # Not a pipe or a device: opening one may take for ever.
        if not file.is_file():
            raise BlockFailedError(f"{where}: the block wrote no file {str(file)!r}")
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_OUTPUT_BYTES + 1)
    except OSError as error:
        raise BlockFailedError(
            f"{where}: the file {str(file)!r} cannot be read: {error.strerror or os.strerror(error.errno or 0)}"
        ) from None
    if len(data) > MAX_FILE_OUTPUT_BYTES:
        raise BlockFailedError(f"{where}: the file {str(file)!r} has more than {MAX_FILE_OUTPUT_BYTES:,} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise BlockFailedError(f"{where}: the file {str(file)!r} is not UTF-8 text") from None
    try:
        return coerce_value(output.type, text)
    except ValueError as error:
        raise BlockFailedError(f"{where} ({output.type}){error}, by the text of {str(file)!r}") from None
