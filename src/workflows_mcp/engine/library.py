"""Workflows in folders, found by their names."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from workflows_mcp.engine.definition import WorkflowDefinition
from workflows_mcp.engine.workflow import read_text, read_workflow
from workflows_mcp.errors import WorkflowDefinitionError, WorkflowNotFoundError

__all__ = ["BUILT_IN", "MAX_FILES", "LibraryChanges", "WorkflowLibrary"]

BUILT_IN = Path(__file__).resolve().parents[1] / "builtin"
"""The folder of the workflows that come along; as the first of a library, any other folder overrides it."""

MAX_FILES = 5000
"""How many files are read of one folder and those in it."""

_SUFFIXES = frozenset({".yaml", ".yml"})

_Stamp = tuple[int, int]
"""When a file was changed, in nanoseconds, and its size: what tells whether it is still the one that was read."""


class WorkflowLibrary:
    """The workflows of some folders, read when they are first asked for. Any thread may use it.

    All `.yaml` and `.yml` files at any depth are read, none that are hidden or stand in a hidden folder. A name in a
    later folder overrides the same in an earlier one. A file that defines no workflow is `broken`, and so are two of
    one folder that have one name: neither can be found then. All others can.

    Everything here reads files; in an event loop it belongs into a thread.

    Args:
        folders: Where the workflows are.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._lock = threading.RLock()
        self._shelf: _Shelf | None = None
        self._told: dict[str, _Known] = {}

    @property
    def broken(self) -> Mapping[Path, str]:
        """Why a file, or a whole folder, could not be read, by its path."""
        return MappingProxyType(self._read().broken)

    def read(self) -> None:
        """Read all files, unless that is done."""
        self._read()

    def reload(self) -> "LibraryChanges":
        """Read all files anew; new ones are found from then on.

        Returns:
            How what can be found differs from what could be found after the last call, or at first: also what was
            noticed meanwhile, when somebody asked for a workflow.
        """
        with self._lock:
            is_first = self._shelf is None
            before, self._told = self._told, self._read_all()
            return LibraryChanges() if is_first else _changes(before, self._told)

    def find(self, name: str) -> WorkflowDefinition | None:
        """The workflow of this name; None: there is none.

        A file that has changed since it was read is read again, so that this tells what stands there now.
        """
        with self._lock:
            found = self._read().workflows.get(name)
            if found is None:
                # Any of the files may have it by now.
                if not any(_stamp_of(path) != stamp for path, stamp in self._read().stamps.items()):
                    return None
                self._read_all()
                found = self._read().workflows.get(name)
            elif _stamp_of(found.path) != found.stamp:
                self._read_again(found)
                found = self._read().workflows.get(name)
            return None if found is None else found.definition

    def names(self) -> list[str]:
        """The names of all workflows, in alphabetical order."""
        return sorted(self._read().workflows)

    def source_of(self, name: str) -> Path:
        """The file that a workflow was read from.

        Raises:
            WorkflowNotFoundError: There is no workflow of this name.
        """
        found = self._read().workflows.get(name)
        if found is None:
            known = ", ".join(self.names()) or "none"
            raise WorkflowNotFoundError(f"the folders have no workflow {name!r}; they have {known}")
        return found.path

    def text_of(self, name: str) -> str:
        """The text of a workflow's file, as it is now.

        Raises:
            WorkflowNotFoundError: There is no workflow of this name, or its file is gone.
            WorkflowDefinitionError: The file cannot be read.
        """
        return read_text(self.source_of(name))

    def shown(self, text: object) -> str:
        r"""A path, or a message with paths in it, that tells where in the folders something is, and not where they are.

        A folder is shown by its own name, and what is no UTF-8 in that of a file by escapes such as `\udce9`.
        """
        shown = str(text)
        for folder in sorted(self._folders, key=lambda one: len(str(one)), reverse=True):
            if folder.name:
                shown = shown.replace(str(folder), folder.name)
        return shown.encode(errors="backslashreplace").decode()

    def is_built_in(self, name: str) -> bool:
        """Whether a workflow is one of those that come along, and no other of that name overrides it.

        Raises:
            WorkflowNotFoundError: There is no workflow of this name.
        """
        return self.source_of(name).is_relative_to(BUILT_IN)

    def _read(self) -> "_Shelf":
        with self._lock:
            if self._shelf is None:
                self._told = self._read_all()
                assert self._shelf is not None
            return self._shelf

    def _read_all(self) -> "dict[str, _Known]":
        """Read all files anew; a copy of what they define."""
        self._shelf = _read_folders(self._folders)
        return dict(self._shelf.workflows)

    def _read_again(self, known: "_Known") -> None:
        """Read a file that has changed; all of them when it is gone or has become something else."""
        stamp = _stamp_of(known.path)
        try:
            definition = read_workflow(known.path)
        except (WorkflowDefinitionError, WorkflowNotFoundError):
            definition = None
        if stamp is None or definition is None or definition.name != known.definition.name:
            self._read_all()
            return
        shelf = self._read()
        shelf.workflows[definition.name] = _Known(definition, known.path, stamp)
        shelf.stamps[known.path] = stamp


@dataclass(frozen=True)
class LibraryChanges:
    """How a library differs from what it was, by names of workflows in alphabetical order.

    Attributes:
        added: Can be found, and could not before.
        changed: Are others now.
        removed: Cannot be found any more.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Known:
    """A workflow, and the file that it was read from."""

    definition: WorkflowDefinition
    path: Path
    stamp: _Stamp | None


@dataclass
class _Shelf:
    """What stands in the folders."""

    workflows: dict[str, _Known] = field(default_factory=dict)
    broken: dict[Path, str] = field(default_factory=dict)
    stamps: dict[Path, _Stamp | None] = field(default_factory=dict)


def _changes(before: Mapping[str, _Known], now: Mapping[str, _Known]) -> LibraryChanges:
    return LibraryChanges(
        added=tuple(sorted(now.keys() - before.keys())),
        changed=tuple(
            sorted(name for name in now.keys() & before.keys() if now[name].definition != before[name].definition)
        ),
        removed=tuple(sorted(before.keys() - now.keys())),
    )


def _read_folders(folders: Sequence[Path]) -> _Shelf:
    shelf = _Shelf()
    for folder in folders:
        _read_folder(folder, shelf)
    return shelf


def _read_folder(folder: Path, shelf: _Shelf) -> None:
    here: dict[str, _Known] = {}
    twice: dict[str, list[Path]] = {}
    for count, path in enumerate(_files_in(folder, shelf.broken)):
        if count == MAX_FILES:
            shelf.broken[folder] = f"the folder {str(folder)!r} has more than {MAX_FILES:,} files; the others are left"
            break
        # Before it is read: what is changed meanwhile is noticed the next time.
        stamp = shelf.stamps[path] = _stamp_of(path)
        try:
            known = _Known(read_workflow(path), path, stamp)
        except (WorkflowDefinitionError, WorkflowNotFoundError) as error:
            shelf.broken[path] = str(error)
            continue
        name = known.definition.name
        first = here.setdefault(name, known)
        if first is not known:
            twice.setdefault(name, [first.path]).append(path)
    shelf.workflows |= here
    for name, paths in twice.items():
        # Nor is the one of an earlier folder taken: somebody wanted to override it.
        del shelf.workflows[name]
        for path in paths:
            others = ", ".join(str(other) for other in paths if other != path)
            shelf.broken[path] = f"{path}: its name {name!r} is that of {others} too; give it another name"


def _files_in(folder: Path, broken: dict[Path, str]) -> Iterator[Path]:
    """The files in a folder and those in it, in alphabetical order; each once, whatever links there are to it."""
    # By path: the number of a file that is replaced meanwhile may be the next one's.
    seen: set[str] = set()
    left = [folder]
    while left:
        path = left.pop()
        if not _is_new(path, seen):
            continue
        try:
            with os.scandir(path) as entries:
                found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda one: one.name)
        except OSError as error:
            broken[path] = f"the folder {str(path)!r} cannot be read: {error.strerror}"
            continue
        folders = []
        for entry in found:
            if _is_folder(entry):
                folders.append(path / entry.name)
            elif Path(entry.name).suffix in _SUFFIXES and _is_new(path / entry.name, seen):
                yield path / entry.name
        left += reversed(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_new(path: Path, seen: set[str]) -> bool:
    real = os.path.realpath(path)
    is_new = real not in seen
    seen.add(real)
    return is_new


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
