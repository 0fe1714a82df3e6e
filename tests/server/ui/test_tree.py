"""JSON data as a tree that has an end."""

from typing import Any

import pytest

from workflows_mcp.server.ui.tree import MOST_CHARACTERS, MOST_CHILDREN, Node, tree_of

LARGE = {"text": "x" * 100}
"""Too large to be shown on one line."""


def nodes(node: Node) -> int:
    """How many values are in a tree."""
    return 1 + sum(map(nodes, node.children))


def levels(node: Node) -> int:
    """How deep a tree is."""
    return 1 + max(map(levels, node.children), default=0)


def characters(node: Node) -> int:
    """How much text is in a tree."""
    return len(node.part) + len(node.text) + sum(map(characters, node.children))


def deep(depth: int) -> Any:
    """Lists and objects inside one another."""
    value: Any = LARGE
    for number in range(depth):
        value = [value] if number % 2 else {"in": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        {f"key {number}": LARGE for number in range(5000)},
        {f"key {number}": {f"key {other}": LARGE for other in range(90)} for number in range(90)},
        [[[[[LARGE] * 9] * 9] * 9] * 9] * 9,
        ["a text\n" * 1000] * 500,
        "x" * 2_000_000,
        deep(1000),
    ],
    ids=["wide", "wide twice", "bushy", "texts", "long", "deep"],
)
def test_a_tree_has_an_end_whatever_the_value_is(value: Any) -> None:
    """No more values, levels and characters than a browser draws in a moment."""
    tree = tree_of(value)
    assert nodes(tree) <= 501
    assert levels(tree) <= 6
    assert characters(tree) <= 250_000


def test_fewer_values_are_shown_where_less_is_asked_for() -> None:
    """Level by level, as far as there is room; what is left out is fetched when it is opened."""
    tree = tree_of({f"key {number}": {f"key {other}": LARGE for other in range(20)} for number in range(30)}, most=90)
    assert nodes(tree) == 1 + 30 + 3 * 20
    assert [child.is_there for child in tree.children] == [True] * 3 + [False] * 27


def test_a_small_state_is_all_there() -> None:
    """Types are told apart, as JSON does; nothing has to be fetched."""
    tree = tree_of({"n": 1, "f": 1.0, "t": True, "none": None, "s": "1", "list": [1, "a"], "o": {"deep": LARGE}})
    shown = {child.name: (child.kind, child.text) for child in tree.children}
    assert shown == {
        "n": ("number", "1"),
        "f": ("number", "1.0"),
        "t": ("boolean", "true"),
        "none": ("null", "null"),
        "s": ("text", '"1"'),
        "list": ("list", '[1, "a"]'),
        "o": ("object", "{1 key}"),
    }
    [inner] = tree.children[-1].children
    assert (inner.path, inner.pointer, inner.children[0].text) == ("o.deep", "/o/deep", '"' + "x" * 100 + '"')


@pytest.mark.parametrize(
    ("value", "a_page"),
    [({str(number): number for number in range(250)}, MOST_CHILDREN), ("x" * 50_000, MOST_CHARACTERS)],
)
def test_the_parts_of_a_large_value_follow_one_another(value: Any, a_page: int) -> None:
    """Each key or character once; before the first and after the last there is nothing."""
    first, seen, before = 0, 0, None
    while True:
        node = tree_of(value, ("at",), first=first)
        assert (node.first, node.preceding) == (first, before)
        seen += node.shown
        if node.following is None:
            break
        before, first = node.first, node.following
        assert node.shown == a_page
    assert seen == len(value)
    beyond = tree_of(value, first=10**9)
    assert (beyond.shown, beyond.following) == (0, None)
