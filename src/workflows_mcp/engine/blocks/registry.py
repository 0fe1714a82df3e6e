"""Which block types there are: those that come along, those that this program registers, those of distributions.

A distribution gives block types by entry points of the group `workflows_mcp.blocks`: functions, subclasses of
`BlockType`, or objects of such. They are loaded when somebody looks for a name that nobody has registered, or for
all names, and not before: what nobody uses costs nothing.
"""

import inspect
import logging
import threading
from collections.abc import Iterator, MutableMapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from workflows_mcp.engine.blocks.block import BlockType
from workflows_mcp.engine.blocks.prompt import Prompt
from workflows_mcp.engine.blocks.shell import Shell
from workflows_mcp.engine.blocks.workflow import Workflow
from workflows_mcp.engine.filters import check_name
from workflows_mcp.errors import WorkflowDefinitionError

__all__ = ["BLOCK_TYPES", "ENTRY_POINTS", "BlockTypes", "block_type_names", "find_block_type", "register"]

ENTRY_POINTS = "workflows_mcp.blocks"
"""The group of the entry points by which distributions give block types."""

_log = logging.getLogger(__name__)


class BlockTypes(MutableMapping[str, BlockType[Any]]):
    """Block types by name; any thread may use it at any time.

    As a mapping it is plain: setting a name replaces what had it. `register` is for everybody else. Looking up a
    name whose entry point cannot be loaded raises a `WorkflowDefinitionError`; such a name is in no listing.
    """

    def __init__(self, *block_types: BlockType[Any]) -> None:
        self._types = {block_type.name: block_type for block_type in block_types}
        self._broken: dict[str, str] = {}
        # Not held while entry points are loaded: a module that another thread imports may be just registering.
        self._lock = threading.Lock()
        self._is_loaded = False
        self._loading = threading.local()

    def register(self, block_type: BlockType[Any]) -> None:
        """Add a block type; see the function of the same name."""
        if not isinstance(block_type, BlockType):
            raise TypeError(f"a block type is an object of a subclass of BlockType, not {block_type!r}")
        name = check_name("a block type's name", block_type.name)
        with self._lock:
            there = self._types.setdefault(name, block_type)
            if there is not block_type:
                if there.origin != block_type.origin:
                    raise ValueError(
                        f"the block type {name!r} is {there.origin} already, and cannot be {block_type.origin} too: "
                        "choose another name"
                    )
                self._types[name] = block_type
            self._broken.pop(name, None)

    def __getitem__(self, name: str) -> BlockType[Any]:
        found = self._types.get(name)
        if found is None:
            self._load()
            found = self._types.get(name)
        if found is not None:
            return found
        if name in self._broken:
            raise WorkflowDefinitionError(self._broken[name])
        raise KeyError(name)

    def __setitem__(self, name: str, block_type: BlockType[Any]) -> None:
        with self._lock:
            self._types[name] = block_type

    def __delitem__(self, name: str) -> None:
        with self._lock:
            del self._types[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        with self._lock:
            return iter(list(self._types))

    def __len__(self) -> int:
        self._load()
        return len(self._types)

    def _load(self) -> None:
        """Load all entry points, once; two threads that come at the same time both do, and find the same."""
        # A module that looks for block types while it is loaded finds those that are there by then.
        if self._is_loaded or getattr(self._loading, "here", False):
            return
        self._loading.here = True
        try:
            for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (entry.name, _giver(entry))):
                self._load_one(entry)
            self._is_loaded = True
        finally:
            self._loading.here = False

    def _load_one(self, entry: EntryPoint) -> None:
        """Load an entry point; whatever goes wrong is told to those who use its name, and to nobody else."""
        try:
            self._adopt(entry.name, entry.load())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else's code may raise anything
            problem = (
                f"the block type {entry.name!r} of the distribution {_giver(entry)!r} ({entry.value}) cannot be used: "
                f"{type(error).__name__}: {error}. Mend or uninstall the distribution"
            )
            _log.warning("%s", problem)
            with self._lock:
                self._broken[entry.name] = problem

    def _adopt(self, name: str, found: object) -> None:
        # It registers functions, and so needs this module.
        from workflows_mcp.engine.blocks.python import FunctionBlock

        if inspect.isclass(found) and issubclass(found, BlockType):
            found = found()
        if isinstance(found, BlockType):
            self.register(found)
        elif callable(found):
            self.register(FunctionBlock(name, found))
        else:
            raise TypeError("it is neither a function nor a block type")


def _giver(entry: EntryPoint) -> str:
    return "unknown" if entry.dist is None else entry.dist.name


BLOCK_TYPES = BlockTypes(Prompt(), Shell(), Workflow())
"""Every block type that a workflow may use."""


def register(block_type: BlockType[Any]) -> None:
    """Let workflows of this process use a block type, under its `name`.

    Registering the same class or function again, say because its module was reloaded, replaces it.

    Args:
        block_type: An object of a subclass of `BlockType`.

    Raises:
        TypeError: It is not.
        ValueError: Another block type has the name, or it is not fit to be one.
    """
    BLOCK_TYPES.register(block_type)


def find_block_type(name: str) -> BlockType[Any] | None:
    """The block type of this name; None: there is none.

    Raises:
        WorkflowDefinitionError: A distribution gives one that cannot be loaded; the message names it and why.
    """
    return BLOCK_TYPES.get(name)


def block_type_names() -> list[str]:
    """The names of all block types that can be used, in alphabetical order."""
    return sorted(BLOCK_TYPES)
