"""Where in a run a block is: `deploy[eu]/check` is of the workflow that runs for the item `eu` of block `deploy`."""

import re

__all__ = ["KEY", "without_keys"]

KEY = re.compile(r"\[.*?\](?=/|$)", re.DOTALL)
"""The key of an item in a path, which may hold anything."""


def without_keys(path: str) -> str:
    """A path without the keys of items, which are data, and may be very many: `deploy[]/check`."""
    return KEY.sub("[]", path)
