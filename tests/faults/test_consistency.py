"""The checker of histories finds what is planted in them, and nothing in those that are fine."""

import math
import random

import pytest

from tests.faults.consistency import Kind, Operation, find_violations


def did(kind: Kind, number: int | None, began: float, ended: float = math.inf, client: str = "a") -> Operation:
    """An operation on the one checkpoint."""
    return Operation(kind, "x", number, began, ended, client)


def found(*operations: Operation) -> list[str]:
    """The first words of what is found."""
    return [line.split(": ")[1] for line in find_violations(operations)]


FINE = {
    "nothing is there yet": [did("read", None, 0, 1), did("save", 1, 2, 3)],
    "what was saved": [did("save", 1, 0, 1), did("read", 1, 2, 3)],
    "either of two at once": [
        did("save", 1, 0, 9),
        did("save", 2, 0, 9),
        did("read", 2, 10, 11),
        did("read", 2, 12, 13),
    ],
    "the old one while the new one is saved": [did("save", 1, 0, 1), did("save", 2, 2, 9), did("read", 1, 3, 8)],
    "the new one while it is saved": [did("save", 1, 0, 1), did("save", 2, 2, 9), did("read", 2, 3, 4)],
    "unknown, and seen late": [did("save", 1, 0), did("save", 2, 1, 2), did("read", 2, 3, 4), did("read", 1, 5, 6)],
    "unknown, and never seen": [did("save", 1, 0, 1), did("save", 2, 2), did("read", 1, 5, 6)],
    "deleted": [did("save", 1, 0, 1), did("delete", None, 2, 3), did("read", None, 4, 5)],
    "deleted perhaps": [did("save", 1, 0, 1), did("delete", None, 2), did("read", 1, 4, 5), did("read", None, 6, 7)],
    "saved while it is deleted": [did("save", 1, 0, 9), did("delete", None, 2, 3), did("read", 1, 10, 11)],
    "claimed after a release": [
        did("claim", None, 0, 1, "a"),
        did("release", None, 2, 3, "a"),
        did("claim", None, 2, 4, "b"),
    ],
    "claimed and followed": [did("claim", None, 0, 1), did("follow", 7, 2, 3)],
    "followed perhaps, and followed": [did("follow", 7, 0), did("follow", 8, 2, 3)],
}

WRONG = {
    "never there after all": (["lost"], [did("save", 1, 0, 1), did("read", None, 2, 3)]),
    "gone again": (["lost"], [did("save", 1, 0, 1), did("read", 1, 2, 3), did("read", None, 4, 5)]),
    "gone since it was saved after a deletion": (
        ["lost"],
        [did("delete", None, 0, 1), did("save", 1, 2, 3), did("read", None, 4, 5)],
    ),
    "deleted only later": (["lost"], [did("save", 1, 0, 1), did("read", None, 2, 3), did("delete", None, 4, 5)]),
    "the one before": (["stale"], [did("save", 1, 0, 1), did("save", 2, 2, 3), did("read", 1, 4, 5)]),
    "back after its deletion": (["stale"], [did("save", 1, 0, 1), did("delete", None, 2, 3), did("read", 1, 4, 5)]),
    "the new one, and then the old one": (
        ["stale"],
        [did("save", 1, 0, 1), did("save", 2, 2, 9), did("read", 2, 3, 4), did("read", 1, 5, 6)],
    ),
    "two in turns": (
        ["stale"],
        [
            *(did("save", 1, 0, 20), did("save", 2, 0, 20)),
            *(did("read", 1, 1, 2), did("read", 2, 3, 4), did("read", 1, 5, 6), did("read", 2, 7, 8)),
        ],
    ),
    "one within another": (
        ["stale"],
        [did("save", 1, 0, 1), did("save", 2, 2, 3), did("save", 3, 4, 20), did("read", 3, 5, 6), did("read", 2, 7, 8)],
    ),
    "another one while it is seen already": (
        ["stale"],
        [did("save", 1, 0, 20), did("read", 1, 1, 2), did("save", 2, 3, 4), did("read", 1, 5, 6)],
    ),
    "deleted, and not": (
        ["stale"],
        [did("save", 1, 0, 20), did("read", 1, 1, 2), did("delete", None, 3, 4), did("read", 1, 5, 6)],
    ),
    "what nobody saved": (["phantom"], [did("save", 1, 0, 1), did("read", 2, 2, 3)]),
    "what is saved only later": (["phantom"], [did("read", 1, 0, 1), did("save", 1, 2, 3)]),
    "two winners": (["two winners"], [did("claim", None, 0, 1, "a"), did("claim", None, 2, 3, "b")]),
    "a second winner before the release": (
        ["two winners"],
        [did("claim", None, 0, 1, "a"), did("claim", None, 2, 3, "b"), did("release", None, 4, 5, "a")],
    ),
    "two followers": (["two followers"], [did("follow", 7, 0, 9), did("follow", 8, 2, 3)]),
    "history is claimed": (["stale"], [did("follow", 7, 0, 1), did("claim", None, 2, 3)]),
}


@pytest.mark.parametrize("name", FINE)
def test_what_can_have_happened_is_fine(name: str) -> None:
    """In some order."""
    assert found(*FINE[name]) == []


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_have_happened_is_found(name: str) -> None:
    """In whatever order it is told."""
    kinds, operations = WRONG[name]
    assert found(*operations) == kinds
    assert found(*reversed(operations)) == kinds


@pytest.mark.parametrize("chance", range(20))
def test_a_register_is_fine_and_a_lost_save_in_it_is_found(chance: int) -> None:
    """Many operations overlap; each happens at its moment, but for the last save, which never does."""
    draw = random.Random(chance)
    value: int | None = None
    done = []
    for number in range(300):
        moment = number * 10.0
        began, ended = moment - draw.uniform(0, 40), moment + draw.uniform(0, 40)
        kind: Kind = draw.choice(("save", "read", "read", "read", "delete"))
        if kind != "read":
            value = number if kind == "save" else None
        done.append(did(kind, None if kind == "delete" else number if kind == "save" else value, began, ended))
    assert found(*done) == []
    done += [did("save", 300, 4000, 4001), did("read", value, 4002, 4003)]
    assert found(*done) == ["lost" if value is None else "stale"]
