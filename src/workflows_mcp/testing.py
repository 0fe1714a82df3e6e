"""The contract of a checkpoint store as tests, for people who write a store of their own.

Needs `pytest` and `pytest-asyncio`. Derive a class and give it a fixture named `store` that yields an empty store::

    class TestMyStore(CheckpointStoreContract):
        @pytest.fixture
        async def store(self):
            async with MyStore() as store:
                yield store
"""

import asyncio
import dataclasses
import datetime
import decimal
import enum
import math
import time
import uuid
from collections import OrderedDict, namedtuple
from typing import Any

import pytest

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState, CheckpointStatus
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.state_json import MAX_DEPTH, encode_state
from workflows_mcp.errors import CheckpointEncodeError, CheckpointTooLargeError

__all__ = ["CheckpointStoreContract", "assert_same", "make_state"]


def make_state(checkpoint_id: str = "checkpoint", **fields: Any) -> CheckpointState:  # noqa: ANN401 - any field
    """A small state; fields that are not given are empty, and it was created just now."""
    defaults: dict[str, Any] = {
        "workflow_name": "workflow",
        "created_at": time.time(),
        "runtime_inputs": {},
        "context": {},
        "completed_blocks": [],
        "current_wave_index": 0,
        "execution_waves": [],
        "block_definitions": {},
        "workflow_stack": [],
    }
    return CheckpointState(checkpoint_id=checkpoint_id, **{**defaults, **fields})


def assert_same(loaded: CheckpointState | None, saved: CheckpointState) -> None:
    """Assert that a state came back exactly: equal, of the same types, with keys in the same order."""
    assert loaded == saved
    # Equality takes True for 1 and 1.0, and -0.0 for 0; JSON tells them apart.
    assert loaded is not None
    assert encode_state(loaded) == encode_state(saved)


def nested(depth: int) -> dict[str, Any]:
    """Dicts inside one another."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"in": value}
    return value


class _Text(enum.StrEnum):
    ONE = "one"


class _Number(enum.IntEnum):
    ONE = 1


class _TextOfAKind(str):
    __slots__ = ()


class _ListOfAKind(list[Any]):
    pass


@dataclasses.dataclass
class _Data:
    one: int = 1


_Pair = namedtuple("_Pair", "one two")  # noqa: PYI024 - one more kind of tuple to be refused

_cyclic: dict[str, Any] = {}
_cyclic["self"] = _cyclic

EXACT_VALUES: dict[str, Any] = {
    "true and one": [True, 1, 1.0, False, 0, 0.0, None],
    "minus zero": -0.0,
    "floats": [0.1, 1e308, 5e-324, 1.7976931348623157e308, 1e16, 1e22, -1.5],
    "integers": [2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)],
    "text": ["", "\0", "a\0b", "ünï", "日本語", "🙂", "\u2028", "\ufeff", "\x7f", '"\\/', "\ud7ff\ue000", "\U0010ffff"],
    "keys": {"": 1, "\0": 2, "b": 3, "a": 4, "🙂": 5, "$ref": 6, "__class__": 7},
    "empty": [[], {}, [[]], [{}], {"a": {}}],
    "order": {"z": 1, "a": {"y": 1, "b": 2}, "m": 3},
    "deep": nested(MAX_DEPTH - 1),
    "long text": "x" * 100_000,
}

REFUSED_VALUES: dict[str, Any] = {
    "datetime": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "date": datetime.date(2026, 1, 1),
    "NaN": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "tuple": (1, 2),
    "named tuple": _Pair(1, 2),
    "set": {1},
    "frozenset": frozenset({1}),
    "bytes": b"bytes",
    "bytearray": bytearray(b"bytes"),
    "decimal": decimal.Decimal(1),
    "uuid": uuid.UUID(int=1),
    "complex": 1j,
    "str enum": _Text.ONE,
    "int enum": _Number.ONE,
    "str subclass": _TextOfAKind("a"),
    "list subclass": _ListOfAKind(),
    "dict subclass": OrderedDict(a=1),
    "dataclass": _Data(),
    "object": object(),
    "class": int,
    "int key": {1: "a"},
    "None key": {None: "a"},
    "tuple key": {(1, 2): "a"},
    "str enum key": {_Text.ONE: "a"},
    "lone surrogate": "\ud800",
    "lone surrogate in a key": {"\udfff": 1},
    "integer too large": 2**64,
    "integer too small": -(2**63) - 1,
    "too deep": nested(MAX_DEPTH),
    "cycle": _cyclic,
}

BAD_NAMES: dict[str, Any] = {
    "empty": "",
    "too long": "x" * 513,
    "too long in UTF-8": "ü" * 257,
    "NUL": "a\0b",
    "lone surrogate": "\ud800",
    "not text": 7,
    "None": None,
}

GOOD_NAMES = (
    "x" * 512,
    "ü" * 256,
    " ",
    "a b",
    "a'b\"c",
    "%s %%",
    "../../etc",
    "\u202egnp.exe",
    "🙂",
    "NULL",
    "0",
    "\n",
    "a,b",
)


@pytest.mark.asyncio
class CheckpointStoreContract:
    """Every promise of `CheckpointStore`, as a test."""

    # --- save and load

    async def test_a_saved_checkpoint_loads_as_it_was(self, store: CheckpointStore) -> None:
        """All fields come back."""
        state = make_state(
            "all",
            created_at=1763884800.1234567,
            runtime_inputs={"a": 1},
            context={"blocks": {"a": {"outputs": {"x": [1, 2.5, None, True]}}}},
            completed_blocks=["a", "b"],
            current_wave_index=2,
            execution_waves=[["a"], ["b", "c"]],
            block_definitions={"a": {"type": "Shell"}},
            workflow_stack=[{"name": "outer"}, {"name": "inner"}],
            parent_checkpoint_id="parent",
            paused_block_id="c",
            pause_prompt="Go on?",
            pause_metadata={"choices": ["yes", "no"]},
            child_checkpoint_id="child",
            run_id="run",
        )
        assert await store.save_checkpoint(state) == "all"
        assert_same(await store.load_checkpoint("all"), state)

    async def test_an_absent_checkpoint_is_none(self, store: CheckpointStore) -> None:
        """Nothing under this id: None, not an error."""
        assert await store.load_checkpoint("absent") is None

    @pytest.mark.parametrize("what", EXACT_VALUES)
    async def test_values_come_back_exactly(self, store: CheckpointStore, what: str) -> None:
        """Same values, same types, same order of keys."""
        state = make_state(context={"value": EXACT_VALUES[what]})
        await store.save_checkpoint(state)
        assert_same(await store.load_checkpoint(state.checkpoint_id), state)

    @pytest.mark.parametrize("status", CheckpointStatus)
    async def test_each_status_comes_back(self, store: CheckpointStore, status: CheckpointStatus) -> None:
        """The status is a `CheckpointStatus` again, in the state and in the listing."""
        paused = "block" if status is CheckpointStatus.PAUSED else None
        state = make_state(status=status, paused_block_id=paused)
        await store.save_checkpoint(state)
        loaded = await store.load_checkpoint(state.checkpoint_id)
        assert loaded is not None
        assert loaded.status is status
        [metadata] = await store.list_checkpoints()
        assert metadata.status is status

    @pytest.mark.parametrize("name", GOOD_NAMES)
    async def test_any_text_of_1_to_512_bytes_is_an_id(self, store: CheckpointStore, name: str) -> None:
        """Ids and names hold any characters, and find exactly their own checkpoint."""
        state = make_state(name, workflow_name=name, run_id=name, parent_checkpoint_id=name)
        await store.save_checkpoint(state)
        assert_same(await store.load_checkpoint(name), state)
        assert [one.checkpoint_id for one in await store.list_checkpoints(name, run_id=name)] == [name]
        assert await store.delete_checkpoint(name)

    @pytest.mark.parametrize("what", BAD_NAMES)
    async def test_anything_else_is_a_value_error(self, store: CheckpointStore, what: str) -> None:
        """A bad id or name is refused by every call, and nothing is stored."""
        name = BAD_NAMES[what]
        for call in (store.load_checkpoint, store.delete_checkpoint):
            with pytest.raises(ValueError, match="checkpoint_id"):
                await call(name)
        fields = ["checkpoint_id", "workflow_name"]
        if name is not None:
            fields += ["run_id", "parent_checkpoint_id"]
        for field in fields:
            bad: dict[str, Any] = {field: name}
            with pytest.raises(ValueError, match=field):
                await store.save_checkpoint(make_state(**bad))
        assert await store.list_checkpoints() == []

    async def test_saving_again_replaces_the_whole_checkpoint(self, store: CheckpointStore) -> None:
        """Nothing of the first state is left, in the state or in the listing."""
        await store.save_checkpoint(
            make_state("one", context={"old": 1}, paused_block_id="b", pause_prompt="old", run_id="old")
        )
        second = make_state("one", workflow_name="other", context={"new": 2}, created_at=5.0)
        await store.save_checkpoint(second)
        assert_same(await store.load_checkpoint("one"), second)
        [metadata] = await store.list_checkpoints()
        assert (metadata.workflow_name, metadata.created_at, metadata.run_id) == ("other", 5.0, None)
        assert (metadata.is_paused, metadata.pause_prompt) == (False, None)

    async def test_a_state_that_is_changed_later_changes_nothing_saved(self, store: CheckpointStore) -> None:
        """The store refers to no object of the caller's."""
        context = {"list": [1]}
        await store.save_checkpoint(make_state("one", context=context))
        context["list"].append(2)
        loaded = await store.load_checkpoint("one")
        assert loaded is not None
        assert loaded.context == {"list": [1]}
        loaded.context["list"].append(3)
        again = await store.load_checkpoint("one")
        assert again is not None
        assert again.context == {"list": [1]}

    # --- exact or refused

    @pytest.mark.parametrize("what", REFUSED_VALUES)
    async def test_what_would_not_come_back_is_refused_with_its_path(self, store: CheckpointStore, what: str) -> None:
        """The error names the path; the checkpoint that was saved before stays."""
        before = make_state("one")
        await store.save_checkpoint(before)
        state = make_state("one", context={"blocks": {"a": [0, REFUSED_VALUES[what]]}})
        with pytest.raises(CheckpointEncodeError, match=r"checkpoint 'one': context\.blocks\.a\[1\]"):
            await store.save_checkpoint(state)
        assert_same(await store.load_checkpoint("one"), before)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("runtime_inputs", []),
            ("context", None),
            ("completed_blocks", ("a",)),
            ("execution_waves", {}),
            ("block_definitions", [1]),
            ("workflow_stack", "text"),
            ("pause_metadata", []),
            ("child_checkpoint_id", 5),
            ("current_wave_index", 1.0),
            ("current_wave_index", True),
            ("schema_version", 2),
            ("schema_version", 0),
        ],
    )
    async def test_a_field_of_another_type_is_refused(self, store: CheckpointStore, field: str, value: object) -> None:
        """What is no dict, list or text where one belongs is refused by name."""
        fields: dict[str, Any] = {field: value}
        with pytest.raises(CheckpointEncodeError, match=field):
            await store.save_checkpoint(make_state(**fields))
        assert await store.list_checkpoints() == []

    async def test_a_state_above_the_limit_is_refused(self, store: CheckpointStore) -> None:
        """The limit counts the plain JSON, however well it could be compressed."""
        state = make_state("one", context={"text": "x" * 10_000})
        size = len(encode_state(state))
        with pytest.raises(CheckpointTooLargeError, match="'one'"):
            await store.save_checkpoint(state, max_bytes=size - 1)
        assert await store.load_checkpoint("one") is None
        await store.save_checkpoint(state, max_bytes=size)
        assert_same(await store.load_checkpoint("one"), state)

    @pytest.mark.parametrize("limit", [0, -1, 1.5, math.nan, "1", True])
    async def test_a_limit_that_is_none_is_a_value_error(self, store: CheckpointStore, limit: Any) -> None:  # noqa: ANN401 - that is the point
        """Nothing is stored."""
        with pytest.raises(ValueError, match="max_bytes"):
            await store.save_checkpoint(make_state(), max_bytes=limit)
        assert await store.list_checkpoints() == []

    # --- list

    async def test_a_listing_is_newest_first_in_one_total_order(self, store: CheckpointStore) -> None:
        """By time, then by id in the order of code points, both descending."""
        ids = ["a", "B", "Z", "z", "ä", "é", "~", "\ue000", "🙂", "a1", "a10", "a2", "A", " ", "_"]
        await asyncio.gather(*(store.save_checkpoint(make_state(name, created_at=7.0)) for name in ids))
        await store.save_checkpoint(make_state("older", created_at=6.999999999))
        await store.save_checkpoint(make_state("newer", created_at=7.000000001))
        listed = [metadata.checkpoint_id for metadata in await store.list_checkpoints()]
        assert listed == ["newer", *sorted(ids, reverse=True), "older"]

    async def test_metadata_says_what_the_state_says(self, store: CheckpointStore) -> None:
        """Every column of the listing."""
        state = make_state(
            "one",
            created_at=12.5,
            paused_block_id="b",
            pause_prompt="Go on?",
            run_id="run",
            parent_checkpoint_id="parent",
            current_wave_index=3,
            context={"text": "x" * 1000},
        )
        await store.save_checkpoint(state)
        [metadata] = await store.list_checkpoints()
        assert dataclasses.replace(metadata, stored_bytes=0, encoding="") == CheckpointMetadata(
            checkpoint_id="one",
            workflow_name="workflow",
            created_at=12.5,
            is_paused=True,
            pause_prompt="Go on?",
            run_id="run",
            status=CheckpointStatus.PAUSED,
            parent_checkpoint_id="parent",
            superseded=False,
            current_wave_index=3,
            pinned=False,
            schema_version=1,
            lease_expires_at=None,
            full_bytes=len(encode_state(state)),
            stored_bytes=0,
            encoding="",
        )
        assert metadata.stored_bytes > 0

    async def test_a_prompt_with_nul_is_listed_with_a_replacement(self, store: CheckpointStore) -> None:
        """The state keeps the prompt as it is."""
        state = make_state(paused_block_id="b", pause_prompt="a\0b")
        await store.save_checkpoint(state)
        [metadata] = await store.list_checkpoints()
        assert metadata.pause_prompt == "a\ufffdb"
        assert_same(await store.load_checkpoint(state.checkpoint_id), state)

    async def test_each_filter_lets_exactly_its_own_pass(self, store: CheckpointStore) -> None:
        """Alone and together."""
        for state in (
            make_state("1", created_at=1.0, workflow_name="a", run_id="r1"),
            make_state("2", created_at=2.0, workflow_name="b", run_id="r1", paused_block_id="x"),
            make_state("3", created_at=3.0, workflow_name="a", run_id="r2", status="completed"),
            make_state("4", created_at=4.0, workflow_name="a", paused_block_id="x"),
            make_state("5", created_at=5.0, workflow_name="b", status="failed"),
        ):
            await store.save_checkpoint(state)

        async def listed(workflow_name: str | None = None, **filters: Any) -> str:  # noqa: ANN401 - any filter
            page = [one.checkpoint_id for one in await store.list_checkpoints(workflow_name, **filters)]
            streamed = [one.checkpoint_id async for one in store.iter_checkpoints(workflow_name, **filters)]
            assert streamed == page
            return "".join(page)

        assert await listed() == "54321"
        assert await listed("a") == "431"
        assert await listed("") == ""
        assert await listed("absent") == ""
        assert await listed(run_id="r1") == "21"
        assert await listed(status="running") == "1"
        assert await listed(status=CheckpointStatus.PAUSED) == "42"
        assert await listed(status="completed") == "3"
        assert await listed(status="cancelled") == ""
        assert await listed(is_paused=True) == "42"
        assert await listed(is_paused=False) == "531"
        assert await listed(heads_only=True) == "54321"
        assert await listed(created_after=2.0) == "5432"
        assert await listed(created_before=4.0) == "321"
        assert await listed(created_after=2.0, created_before=4.0) == "32"
        assert await listed("a", is_paused=True, created_after=2) == "4"
        assert await listed("b", status="failed", is_paused=False, heads_only=True, created_before=6) == "5"

    async def test_pages_hold_every_checkpoint_once(self, store: CheckpointStore) -> None:
        """Also where many were created at the same time; by metadata and by text cursor."""
        states = [make_state(f"{number:02}", created_at=float(number // 7)) for number in range(30)]
        await asyncio.gather(*map(store.save_checkpoint, states))
        whole = await store.list_checkpoints()
        for as_text in (False, True):
            pages: list[CheckpointMetadata] = []
            last: CheckpointMetadata | str | None = None
            while page := await store.list_checkpoints(limit=4, before=last):
                assert len(page) <= 4
                pages += page
                last = page[-1].cursor if as_text else page[-1]
            assert pages == whole

    async def test_a_page_of_nothing_is_empty(self, store: CheckpointStore) -> None:
        """`limit=0` is allowed."""
        await store.save_checkpoint(make_state())
        assert await store.list_checkpoints(limit=0) == []

    @pytest.mark.parametrize(
        "filters",
        [
            {"limit": -1},
            {"limit": 1.5},
            {"limit": True},
            {"limit": 2**70},
            {"before": "no cursor"},
            {"before": "nan,id"},
            {"before": "1.0,"},
            {"before": 7},
            {"status": "sleeping"},
            {"run_id": ""},
            {"workflow_name": "a\0"},
            {"created_after": math.nan},
            {"created_before": "yesterday"},
            {"created_after": 10**400},
            {"is_paused": 1},
            {"is_paused": "no"},
            {"heads_only": None},
            {"workflow_name": 0},
        ],
    )
    async def test_a_bad_filter_is_a_value_error(self, store: CheckpointStore, filters: dict[str, Any]) -> None:
        """It is not quietly ignored."""
        with pytest.raises(ValueError):  # noqa: PT011 - the message is each filter's own
            await store.list_checkpoints(**filters)

    # --- iterate

    async def test_iteration_streams_all_states_newest_first(self, store: CheckpointStore) -> None:
        """More of them than any page holds."""
        states = [make_state(f"{number:04}", created_at=float(number), context={"n": number}) for number in range(620)]
        await asyncio.gather(*map(store.save_checkpoint, states))
        streamed = [state async for state in store.iter_checkpoints()]
        assert streamed == states[::-1]

    # --- delete

    async def test_delete_tells_whether_it_was_there(self, store: CheckpointStore) -> None:
        """True once, then False; the others stay."""
        await store.save_checkpoint(make_state("one"))
        await store.save_checkpoint(make_state("two"))
        assert await store.delete_checkpoint("one") is True
        assert await store.delete_checkpoint("one") is False
        assert await store.load_checkpoint("one") is None
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == ["two"]

    # --- cleanup

    async def test_cleanup_deletes_what_is_older(self, store: CheckpointStore) -> None:
        """And returns how many; later calls find nothing."""
        now = time.time()
        for name, age in (("old", 100), ("older", 1000), ("new", 10), ("future", -100)):
            await store.save_checkpoint(make_state(name, created_at=now - age))
        assert await store.cleanup_expired(60) == 2
        assert await store.cleanup_expired(60) == 0
        assert {one.checkpoint_id for one in await store.list_checkpoints()} == {"new", "future"}

    async def test_cleanup_never_removes_a_paused_checkpoint_unasked(self, store: CheckpointStore) -> None:
        """However old it is; with `keep_paused=False` it goes."""
        await store.save_checkpoint(make_state("paused", created_at=1.0, paused_block_id="b"))
        await store.save_checkpoint(make_state("plain", created_at=1.0))
        assert await store.cleanup_expired(60) == 1
        assert await store.load_checkpoint("paused") is not None
        assert await store.cleanup_expired(60, keep_paused=False) == 1

    @pytest.mark.parametrize("age", [-1, math.nan, math.inf, "60", None, True, 10**400])
    async def test_cleanup_refuses_a_bad_age(self, store: CheckpointStore, age: Any) -> None:  # noqa: ANN401 - that is the point
        """Nothing is deleted."""
        await store.save_checkpoint(make_state(created_at=1.0))
        with pytest.raises(ValueError, match="max_age_seconds"):
            await store.cleanup_expired(age)
        assert len(await store.list_checkpoints()) == 1

    # --- trim

    async def test_trim_keeps_the_newest_of_each_workflow(self, store: CheckpointStore) -> None:
        """Those created at the same time go by their id."""
        for workflow in ("a", "b", "B"):
            for number in range(5):
                await store.save_checkpoint(
                    make_state(f"{workflow}{number}", workflow_name=workflow, created_at=float(number // 2))
                )
        await store.save_checkpoint(make_state("c0", workflow_name="c"))
        assert await store.trim_per_workflow(2) == 9
        assert await store.trim_per_workflow(2) == 0
        kept = {one.checkpoint_id for one in await store.list_checkpoints()}
        assert kept == {"a4", "a3", "b4", "b3", "B4", "B3", "c0"}

    async def test_trim_never_removes_a_paused_checkpoint_unasked(self, store: CheckpointStore) -> None:
        """Paused ones are kept besides and use up no slot; with `keep_paused=False` they are like the others."""
        for number in range(6):
            paused = "b" if number in {0, 3, 5} else None
            await store.save_checkpoint(make_state(str(number), created_at=float(number), paused_block_id=paused))
        assert await store.trim_per_workflow(2) == 1
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == ["5", "4", "3", "2", "0"]
        assert await store.trim_per_workflow(2, keep_paused=False) == 3
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == ["5", "4"]

    async def test_retention_takes_as_many_as_there_are(self, store: CheckpointStore) -> None:
        """More than any batch holds, with some among them that stay."""
        await asyncio.gather(
            *(
                store.save_checkpoint(
                    make_state(f"{n:04}", created_at=float(n), paused_block_id="b" if n % 100 == 0 else None)
                )
                for n in range(1200)
            )
        )
        assert await store.trim_per_workflow(600) == 1188 - 600
        assert await store.cleanup_expired(60) == 600
        assert [one.checkpoint_id for one in await store.list_checkpoints()] == [
            f"{n:04}" for n in range(1100, -1, -100)
        ]

    @pytest.mark.parametrize("number", [0, -1, 1.5, "2", None, True])
    async def test_trim_refuses_a_bad_number(self, store: CheckpointStore, number: Any) -> None:  # noqa: ANN401 - that is the point
        """Nothing is deleted."""
        await store.save_checkpoint(make_state())
        with pytest.raises(ValueError, match="max_per_workflow"):
            await store.trim_per_workflow(number)
        assert len(await store.list_checkpoints()) == 1

    async def test_retention_beside_saves_takes_only_what_is_old(self, store: CheckpointStore) -> None:
        """Concurrent saves neither fail nor vanish."""
        await asyncio.gather(*(store.save_checkpoint(make_state(f"old{n}", created_at=float(n))) for n in range(60)))
        saves = [store.save_checkpoint(make_state(f"new{n}", workflow_name="other")) for n in range(40)]
        retention = asyncio.gather(store.trim_per_workflow(50), store.cleanup_expired(60))
        await asyncio.gather(*saves)
        assert sum(await retention) == 60
        assert {one.checkpoint_id for one in await store.list_checkpoints()} == {f"new{n}" for n in range(40)}

    # --- stats

    async def test_stats_of_an_empty_store(self, store: CheckpointStore) -> None:
        """Zeros, and no times."""
        stats = await store.get_stats()
        assert (stats.total_checkpoints, stats.paused_checkpoints, stats.automatic_checkpoints) == (0, 0, 0)
        assert (stats.workflows, stats.oldest_checkpoint, stats.newest_checkpoint) == ({}, None, None)
        assert (stats.full_bytes, stats.stored_bytes) == (0, 0)

    async def test_stats_count_what_is_stored(self, store: CheckpointStore) -> None:
        """Numbers, times and bytes."""
        states = [
            make_state("1", workflow_name="b", created_at=10.5),
            make_state("2", workflow_name="a", created_at=11.5, paused_block_id="x"),
            make_state("3", workflow_name="b", created_at=12.5, context={"text": "x" * 5000}),
        ]
        for state in states:
            await store.save_checkpoint(state)
        stats = await store.get_stats()
        assert (stats.total_checkpoints, stats.paused_checkpoints, stats.automatic_checkpoints) == (3, 1, 2)
        assert list(stats.workflows.items()) == [("a", 1), ("b", 2)]
        assert (stats.oldest_checkpoint, stats.newest_checkpoint) == (10.5, 12.5)
        assert stats.full_bytes == sum(len(encode_state(state)) for state in states)
        listed = await store.list_checkpoints()
        assert stats.stored_bytes == sum(one.stored_bytes for one in listed)
        assert stats.database_bytes >= stats.stored_bytes

    # --- all together

    async def test_concurrent_saves_all_land(self, store: CheckpointStore) -> None:
        """Each under its own id, whole."""
        states = [make_state(f"{number}", context={"n": number, "text": "x" * number}) for number in range(100)]
        await asyncio.gather(*map(store.save_checkpoint, states))
        for state in states:
            assert_same(await store.load_checkpoint(state.checkpoint_id), state)

    async def test_concurrent_saves_of_one_id_leave_one_of_them_whole(self, store: CheckpointStore) -> None:
        """Never a mixture, in the state or between state and listing."""
        states = [make_state("one", workflow_name=f"w{n}", created_at=float(n), context={"n": n}) for n in range(30)]
        await asyncio.gather(*map(store.save_checkpoint, states))
        loaded = await store.load_checkpoint("one")
        assert loaded in states
        [metadata] = await store.list_checkpoints()
        assert loaded is not None
        assert (metadata.workflow_name, metadata.created_at) == (loaded.workflow_name, loaded.created_at)

    async def test_vacuum_changes_nothing_that_is_stored(self, store: CheckpointStore) -> None:
        """It tidies, no more."""
        states = [make_state(f"{number}") for number in range(20)]
        for state in states:
            await store.save_checkpoint(state)
        await store.trim_per_workflow(5)
        before = await store.list_checkpoints()
        await store.vacuum()
        assert await store.list_checkpoints() == before

    async def test_closing_twice_is_fine(self, store: CheckpointStore) -> None:
        """Also when nothing was done, and at the end of `async with`."""
        async with store as entered:
            assert entered is store
        await store.close()
