"""What a disk holds after a power cut: everything that a process wrote and synced, and any part of what it did not.

strace records what a process does to the files of a folder. Then any number of cuts are replayed. Writes that were not
synced when the power went are dropped, kept, kept in part and out of order, or torn by sector, each file for itself.
Names that were created or removed last only from the next sync of their folder on.
"""

import random
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["APPENDED", "Disk", "Event", "trace"]

_CALLS = "openat,write,writev,pwrite64,pwritev,ftruncate,fallocate,fsync,fdatasync,unlink,unlinkat,rename,renameat2"
_LINE = re.compile(r"(?P<call>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\d+)(?:<(?P<opened>[^>]*)>)?")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_FILE = re.compile(r"\d+<(?P<name>[^>]*)>")
_TEXT = re.compile(r'"(?P<text>[^"]*)"')
_SECTOR = 512

APPENDED = -1
"""The offset of what was written at a file's end, as nobody writes into a database."""


@dataclass(frozen=True)
class Event:
    """What a process did to a file of the folder.

    Attributes:
        call: `create`, `write`, `truncate`, `unlink` or `sync`.
        name: The file's, or an empty text for the folder itself.
        offset: Where it was written, or `APPENDED`, or to which size it was cut or extended.
        data: What was written.
        begun: Of a sync: how many events had happened when it began; it says nothing about later ones.
    """

    call: str
    name: str
    offset: int = 0
    data: bytes = b""
    begun: int = 0


def trace(command: Sequence[str], folder: Path, log: Path) -> list[Event]:
    """Run a program, and note all that it and its threads do to the files of a folder.

    Args:
        command: Its words.
        folder: The folder; what is in folders below is not looked at.
        log: A file for strace.

    Raises:
        subprocess.CalledProcessError: It failed.
        ValueError: It did what is not understood here.
    """
    options = ["-f", "--seccomp-bpf", "-y", "-xx", "-s", "1000000", "-e", f"trace={_CALLS}", "-o", str(log)]
    subprocess.run(["strace", *options, *command], check=True)
    with log.open() as lines:
        return _Reading(folder).read(lines)


class _Reading:
    """Reads a log of strace's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._events: list[Event] = []
        self._names: set[str] = set()

    def read(self, lines: Iterator[str]) -> list[Event]:
        unfinished: dict[str, tuple[str, int]] = {}
        for line in lines:
            process, _, rest = line.rstrip("\n").partition(" ")
            text, begun = rest.strip(), len(self._events)
            if text.endswith("<unfinished ...>"):
                unfinished[process] = text.removesuffix("<unfinished ...>").rstrip(), begun
                continue
            if resumed := _RESUMED.match(text):
                first, begun = unfinished.pop(process)
                text = first + resumed[1]
            found = _LINE.match(text)
            if found is not None and int(found["result"]) >= 0:
                self._take(found, begun)
        return self._events

    def _take(self, found: re.Match[str], begun: int) -> None:
        call, arguments = found["call"], found["arguments"]
        if call == "openat":
            name = self._name(found["opened"])
            if name and "O_CREAT" in arguments and name not in self._names:
                self._note(Event("create", name))
        elif call in {"unlink", "unlinkat", "rename", "renameat2"}:
            texts = [self._name(text["text"]) for text in _TEXT.finditer(arguments)]
            if any(texts) and call != "unlink":
                raise ValueError(f"{call} of {texts} is not understood")
            for name in filter(None, texts):
                self._note(Event("unlink", name))
        elif file := _FILE.match(arguments):
            name = self._name(file["name"])
            if name is not None:
                self._take_content(call, name, arguments[file.end() :], int(found["result"]), begun)

    def _take_content(self, call: str, name: str, arguments: str, result: int, begun: int) -> None:
        """Take what is done to an open file.

        Args:
            call: What it is.
            name: The file's.
            arguments: What follows the file.
            result: What it returned.
            begun: How many events had happened when it began.
        """
        if call in {"fsync", "fdatasync"}:
            self._note(Event("sync", name, begun=begun))
        elif call == "ftruncate":
            self._note(Event("truncate", name, offset=int(arguments.lstrip(", "))))
        elif call in {"pwrite64", "write"}:
            text = _TEXT.search(arguments)
            written = b"" if text is None else _bytes(text["text"])
            if len(written) != result:
                raise ValueError("a write was cut short")
            offset = int(arguments.rpartition(",")[2]) if call == "pwrite64" else APPENDED
            self._note(Event("write", name, offset, written))
        else:
            raise ValueError(f"{call} of {name} is not understood")

    def _note(self, event: Event) -> None:
        self._events.append(event)
        if event.call == "create":
            self._names.add(event.name)
        elif event.call == "unlink":
            self._names.discard(event.name)

    def _name(self, hexadecimal: str) -> str | None:
        """A file's name in the folder; empty for the folder itself, None for what is elsewhere or only in memory."""
        path = Path(_bytes(hexadecimal).decode(errors="replace"))
        if path == self._folder:
            return ""
        return path.name if path.parent == self._folder and not path.name.endswith("-shm") else None


def _bytes(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


@dataclass
class _File:
    synced: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, Event]] = field(default_factory=list)


class Disk:
    """A folder on a disk, on which events happen until the power goes.

    Args:
        events: All that would happen.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self._happened = 0
        self._files: dict[str, _File] = {}  # as the process sees them
        self._names: dict[str, _File] = {}  # as they are on the disk
        self._unsynced_names: list[tuple[int, str, _File | None]] = []

    def go_on_until(self, number: int) -> None:
        """Let so many events have happened, at least as many as before."""
        while self._happened < number:
            self._do(self._happened, self._events[self._happened])
            self._happened += 1

    def _do(self, number: int, event: Event) -> None:
        if event.call == "create":
            file = self._files[event.name] = _File()
            self._unsynced_names.append((number, event.name, file))
        elif event.call == "unlink":
            del self._files[event.name]
            self._unsynced_names.append((number, event.name, None))
        elif event.call != "sync":
            self._files[event.name].unsynced.append((number, event))
        elif event.name:
            file = self._files[event.name]
            for at, one in file.unsynced:
                if at < event.begun:
                    _apply(file.synced, one)
            file.unsynced = [one for one in file.unsynced if one[0] >= event.begun]
        else:
            _rename(self._names, [one for one in self._unsynced_names if one[0] < event.begun])
            self._unsynced_names = [one for one in self._unsynced_names if one[0] >= event.begun]

    def cut_power(self, chance: random.Random) -> dict[str, bytes]:
        """What is there when the power comes back: one of the many things that may be."""
        names = dict(self._names)
        # A file system keeps the order of such changes.
        _rename(names, self._unsynced_names[: chance.randint(0, len(self._unsynced_names))])
        return {name: _left(file, chance) for name, file in names.items()}


def _rename(names: dict[str, _File], changes: Sequence[tuple[int, str, _File | None]]) -> None:
    for _, name, file in changes:
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


def _left(file: _File, chance: random.Random) -> bytes:
    """What a file holds after the power cut."""
    content = bytearray(file.synced)
    kind = chance.choice(["none", "all", "some", "torn"])
    for _, event in file.unsynced:
        if kind == "all" or (kind == "some" and chance.random() < 0.5):
            _apply(content, event)
        elif kind == "torn" and event.call == "truncate":
            if chance.random() < 0.5:
                _apply(content, event)
        elif kind == "torn":
            for start in range(0, len(event.data), _SECTOR):
                if chance.random() < 0.5:
                    sector = event.data[start : start + _SECTOR]
                    _apply(content, Event("write", event.name, event.offset + start, sector))
    return bytes(content)


def _apply(content: bytearray, event: Event) -> None:
    """Write, or cut off or extend."""
    offset = len(content) if event.offset == APPENDED else event.offset
    end = offset + len(event.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if event.call == "write":
        content[offset:end] = event.data
    else:
        del content[offset:]
