"""Who watches what, for several who ask for the same."""

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Shared"]

Target = TypeVar("Target")
Watcher = TypeVar("Watcher")


@dataclass(eq=False)
class _Attached(Generic[Target, Watcher]):
    target: "weakref.ref[Target]"
    purpose: object
    watcher: Watcher
    users: int


class Shared(Generic[Target, Watcher]):
    """One watcher for each target and purpose, from the first who joins it until the last has left.

    Targets are not kept alive, and are told apart by what they are, not by what they are equal to. One thread at a
    time may use this.
    """

    def __init__(self) -> None:
        self._attached: list[_Attached[Target, Watcher]] = []

    def __iter__(self) -> Iterator[tuple[Target, Watcher]]:
        for one in self._attached:
            target = one.target()
            if target is not None:
                yield target, one.watcher

    def join(self, target: Target, purpose: object, attach: Callable[[], Watcher]) -> Watcher:
        """Be one more user of a target's watcher, which is attached for the first of them."""
        found = self._find(target, purpose)
        if found is None:
            found = _Attached(weakref.ref(target), purpose, attach(), 0)
            self._attached.append(found)
        found.users += 1
        return found.watcher

    def leave(self, target: Target, purpose: object) -> Watcher | None:
        """Be a user no more; returns the watcher when it was the last one's, for it to be taken off."""
        found = self._find(target, purpose)
        if found is None:
            return None
        found.users -= 1
        if found.users:
            return None
        self._attached.remove(found)
        return found.watcher

    def sweep(self) -> list[Watcher]:
        """Forget the watchers of targets that are gone, and return them."""
        gone = [one for one in self._attached if one.target() is None]
        self._attached = [one for one in self._attached if one not in gone]
        return [one.watcher for one in gone]

    def _find(self, target: Target, purpose: object) -> _Attached[Target, Watcher] | None:
        for one in self._attached:
            if one.target() is target and one.purpose is purpose:
                return one
        return None
