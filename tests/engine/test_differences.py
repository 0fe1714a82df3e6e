"""What differs between two values, or two checkpoints."""

import copy
import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows_mcp import InMemoryCheckpointStore
from workflows_mcp.engine.comparing import compare_checkpoints
from workflows_mcp.engine.differences import ABSENT, Difference, difference, is_same
from workflows_mcp.engine.glimpses import glimpse, glimpses_of_change, json_size, kind_of
from workflows_mcp.engine.pointers import dotted, follow, pointer_of
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.errors import CheckpointNotFoundError
from workflows_mcp.testing import make_state

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 0.5]) | st.text("ab~/", max_size=2),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab~/.0", max_size=2), inner, max_size=4),
    max_leaves=12,
)


def told(before: Any, after: Any) -> list[str]:
    """The changes, in a line each."""
    return [f"{one.kind} {one.path}" for one in difference(before, after).changes]


def applied(value: Any, found: Difference) -> Any:
    """What a difference makes of a value."""
    holder = [copy.deepcopy(value)]
    ordered = [one for one in found.changes if one.kind == "changed"]
    ordered += reversed([one for one in found.changes if one.kind == "removed"])
    ordered += [one for one in found.changes if one.kind == "added"]
    for one in ordered:
        *way, last = (0, *one.steps)
        inner: Any = holder
        for step in way:
            inner = inner[step]
        if one.kind == "removed":
            del inner[last]
        elif one.kind == "added" and isinstance(inner, list) and isinstance(last, int):
            inner.insert(last, copy.deepcopy(one.after))
        else:
            inner[last] = copy.deepcopy(one.after)
    return holder[0]


@settings(max_examples=50, deadline=None)
@given(JSON, JSON)
def test_what_differs_is_all_that_makes_one_value_of_the_other(before: Any, after: Any) -> None:
    """To the type; and of two values of which nothing differs, nothing is told."""
    found = difference(before, after)
    made = applied(before, found)
    assert json.dumps(made, sort_keys=True) == json.dumps(after, sort_keys=True)
    assert is_same(before, after) is (found.total == 0)
    assert [one.steps for one in found.changes] == sorted(one.steps for one in found.changes)
    for one in found.changes:
        side, there = (after, one.after) if one.after is not ABSENT else (before, one.before)
        assert follow(side, one.pointer) == (one.steps, there)


def test_each_change_is_told_once_by_its_path() -> None:
    """A part that came or went as a whole; types are told apart."""
    before = {"context": {"a": {"rows": [1, 2, {"x": 1}]}, "gone": {"deep": [1]}}, "n": 1, "t": True, "s": "1"}
    after = {"context": {"a": {"rows": [1, 2, {"x": 2}]}, "new": {"deep": [1]}}, "n": 1.0, "t": 1, "s": "1"}
    assert told(before, after) == [
        "changed context.a.rows[2].x",
        "removed context.gone",
        "added context.new",
        "changed n",
        "changed t",
    ]
    assert told([1], {"0": 1}) == ["changed "]
    assert told(None, {}) == ["changed "]


def test_what_is_put_into_a_list_or_taken_out_is_one_change_wherever_it_was() -> None:
    """The rest of a list is not told as changed because it moved."""
    rows = [{"id": number} for number in range(1000)]
    assert told(rows, [*rows, {"id": 0}]) == ["added [1000]"]
    assert told(rows, [{"id": -1}, *rows]) == ["added [0]"]
    assert told(rows, [*rows[:500], *rows[501:]]) == ["removed [500]"]
    assert told([1, 2, 3, 4], [1, 9, 4]) == ["changed [1]", "removed [2]"]
    assert told([1, 1, 1], [1, 1]) == ["removed [2]"]


def test_the_most_changes_are_named_and_all_are_counted() -> None:
    """The first ones in order."""
    found = difference({}, {f"k{number}": number for number in range(30)}, most=10)
    assert (len(found.changes), found.more, found.total) == (10, 20, 30)
    assert found.counts == {"added": 30, "changed": 0, "removed": 0}
    assert found.changes[0].path == "k0"


def test_values_that_are_nested_very_deeply_are_compared() -> None:
    """Far deeper than Python's stack."""
    one: Any = 1
    other: Any = 2
    for _ in range(5_000):
        one, other = [one], [other]
    [change] = difference(one, other).changes
    assert (change.steps, change.before, change.after) == ((0,) * 5_000, 1, 2)
    assert json_size(one) == 10_001
    assert not is_same(one, other)
    assert glimpse(one).text == "[1 item]"


def test_a_large_state_is_compared_in_a_moment() -> None:
    """5 MB and 150,000 keys, of which one differs: a second of work at most, however busy the machine is."""
    rows = {f"row {number}": {"id": number, "text": "x" * 66} for number in range(50_000)}
    other = {key: dict(row) for key, row in rows.items()}
    other["row 25000"]["id"] = "changed"
    assert json_size(rows) > 5_000_000
    begin = time.process_time()
    assert told({"context": rows}, {"context": other}) == ["changed context.row 25000.id"]
    assert time.process_time() - begin < 1.0


def test_what_differs_everywhere_is_counted_without_being_kept() -> None:
    """The memory that a comparison takes is that of what it names, and its time grows with the values alone."""
    before, after = ([[by] for _ in range(50_000)] for by in (1, 2))
    begin = time.process_time()
    assert difference(before, after, most=10).counts["changed"] == 50_000
    assert time.process_time() - begin < 1.0
    tracemalloc.start()
    try:
        found = difference(before[:5000], after[:5000], most=10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found.total, found.changes[-1].path, len(found.changes)) == (5000, "[9][0]", 10)
    assert peak < 200_000  # most of it are the two lists


@pytest.mark.parametrize(
    "pointer",
    [
        "/nope",
        "/rows/2",
        "/rows/01",
        "/rows/-1",
        "/rows/x",
        "/rows/0/a",
        "/rows/²",
        "/rows/\u0660",
        f"/rows/{'9' * 5_000}",
    ],
)
def test_a_pointer_to_nothing_is_told_from_one_to_something(pointer: str) -> None:
    """Whatever its index looks like; and from what is none."""
    value = {"rows": ["a", "b"]}
    with pytest.raises(LookupError, match="there is no "):
        follow(value, pointer)
    with pytest.raises(ValueError, match="begins with a slash"):
        follow(value, pointer[1:])


def test_a_path_can_be_printed_whatever_its_keys_hold() -> None:
    """What is not seen is named, and a long key is cut; a pointer has it all."""
    odd = ("a\x1b[2J\n\u202e", 3, "k" * 81)
    assert dotted(odd) == f"a\\x1b[2J\\n\\u202e[3].{'k' * 80}…"
    assert pointer_of(odd) == f"/a\x1b[2J\n\u202e/3/{'k' * 81}"
    assert dotted(["k" * 80]) == "k" * 80


def test_a_pointer_leads_back_whatever_keys_hold() -> None:
    """Slashes, tildes, nothing at all."""
    value = {"a/b~1": {"": [{"0": "here"}]}}
    steps = ("a/b~1", "", 0, "0")
    assert follow(value, pointer_of(steps)) == (steps, "here")
    assert follow(value, "") == ((), value)


@pytest.mark.parametrize(
    ("value", "text", "is_whole"),
    [
        ("short \n", '"short \\n"', True),
        ("x" * 500, '"' + "x" * 120 + "…", False),
        ("x" * 120, '"' + "x" * 120 + '"', True),
        (["x" * 116], '["' + "x" * 116 + '"]', True),
        ({"k": 1}, '{"k": 1}', True),
        ({str(number): number for number in range(5000)}, "{5,000 keys}", False),
        ([["x" * 130]], "[1 item]", False),
        (1.0, "1.0", True),
        (None, "null", True),
    ],
)
def test_a_value_is_shown_whole_or_in_short(value: Any, text: str, is_whole: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """On one line, of a length that has an end."""
    shown = glimpse(value)
    assert (shown.text, shown.is_whole) == (text, is_whole)


@pytest.mark.parametrize("alike", [0, 19, 20, 21, 500])
@pytest.mark.parametrize("lengths", [(200, 200), (0, 130), (130, 1)])
def test_of_long_texts_that_differ_it_is_shown_where(alike: int, lengths: tuple[int, int]) -> None:
    """After a little of what they have in common; how large they are, and from where they are shown, is told."""
    before, after = ("é" * alike + letter * length for letter, length in zip("ab", lengths, strict=True))
    begin = max(alike - 20, 0)
    for shown, text in zip(glimpses_of_change(before, after), (before, after), strict=True):
        assert (shown.first, shown.size) == (begin, len(text.encode()) + 2)
        seen = shown.text.strip('"').removeprefix("…").removesuffix("…")
        assert seen == text[begin : begin + 120]
        assert shown.text.startswith('"…') is (begin > 0)
        assert shown.is_whole is (seen == text)


def test_the_size_of_what_is_nested_deeply_is_in_bytes() -> None:
    """As that of any other value; and kinds of values are named for people."""
    value: Any = {"é": ["é", 1]}
    for _ in range(300):
        value = [value]
    assert json_size(value) == 600 + len('{"é":["é",1]}'.encode())
    kinds = {"boolean": True, "number": 1.0, "text": "", "object": {}, "list": [], "null": None}
    assert [kind_of(one) for one in kinds.values()] == list(kinds)


async def test_checkpoints_are_compared_without_secrets_and_ids_are_set_apart() -> None:
    """A secret that was saved before it was one, in a value and in a key."""
    store = InMemoryCheckpointStore()
    common = {"run_id": "r", "created_at": 1.0}
    await store.save_checkpoint(make_state("a", context={"k": "the hunter22"}, **common))
    later = {**common, "created_at": 2.0}
    await store.save_checkpoint(make_state("of another run", run_id="s", created_at=1.5))
    await store.save_checkpoint(make_state("b", context={"k": "the hunter23", "hunter22": {"n": "hunter22"}}, **later))
    scrub = Secrets(lambda: {"A": "hunter22", "B": "hunter23"}).scrub_now
    found = await compare_checkpoints(store, "b", None, scrub)
    assert found.before is not None
    assert (found.before["checkpoint_id"], found.is_of_one_run) == ("a", True)
    assert [(one.path, one.after) for one in found.difference.changes] == [("context.***", {"n": "***"})]
    assert {one.path for one in found.about.changes} == {"checkpoint_id", "created_at"}
    assert type(found.after["status"]) is str, "plain data, as it is stored"
    first = await compare_checkpoints(store, "a", None, scrub)
    assert first.before is None
    assert first.difference.counts["changed"] == first.difference.counts["removed"] == 0
    with pytest.raises(CheckpointNotFoundError, match="'nope'"):
        await compare_checkpoints(store, "a", "nope", scrub)


async def test_the_names_of_fields_and_which_checkpoints_they_are_are_no_secrets() -> None:
    """A secret may be a word of them; that two runs are two is told even where both their ids are masked."""
    store = InMemoryCheckpointStore()
    for number, name in enumerate(["workflow-1", "workflow-2"]):
        state = make_state(name, run_id=name, created_at=number, workflow_name=f"workflow {number}", context={"n": 1})
        await store.save_checkpoint(state)
    scrub = Secrets(lambda: {"DB": "workflow", "RUN": "workflow-1", "OTHER": "workflow-2"}).scrub_now
    found = await compare_checkpoints(store, "workflow-1", "workflow-2", scrub)
    assert (found.after["workflow_name"], found.after["run_id"]) == ("*** 1", "***")
    assert (found.is_of_one_run, found.is_of_one_workflow, found.named_after.run_id) == (False, False, "workflow-2")
    assert found.difference.total == 0
    for name in ("alone", "lonely"):
        await store.save_checkpoint(make_state(name))
    assert not (await compare_checkpoints(store, "alone", "lonely", scrub)).is_of_one_run, "they are of none"
