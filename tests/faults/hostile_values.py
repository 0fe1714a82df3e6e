"""States, ids, names and owners that hold anything that Python has."""

import asyncio
import collections
import dataclasses
import datetime
import decimal
import enum
import math
import struct
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import (
    CheckpointEncodeError,
    CheckpointState,
    CheckpointStore,
    InMemoryCheckpointStore,
    SQLAlchemyCheckpointStore,
    upgrade_schema,
)
from workflows_mcp.testing import make_state

__all__ = ["ROW"]

T = TypeVar("T")

_DEEPEST = 100


class _Colour(enum.StrEnum):
    RED = "red"


class _Number(enum.IntEnum):
    ONE = 1


class _Text(str):
    __slots__ = ()


class _Int(int):
    pass


class _Float(float):
    pass


class _Dict(dict[str, Any]):
    def items(self) -> Any:  # it lies
        return [("a", "something else")]


class _List(list[Any]):
    def __iter__(self) -> Any:
        return iter(["something else"])


class _Liar:
    """Says that it is a dict, is equal to all there is, and empty."""

    @property  # type: ignore[misc] # it lies
    def __class__(self) -> Any:
        return dict

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __len__(self) -> int:
        return 0


@dataclasses.dataclass
class _Data:
    one: int = 1


_Pair = collections.namedtuple("_Pair", "one two")  # noqa: PYI024 - one more kind of tuple to be refused


def _cyclic() -> Any:
    value: dict[str, Any] = {"list": []}
    value["list"].append(value)
    return value


def _nested(depth: int, *, in_lists: bool) -> Any:
    value: Any = [] if in_lists else {}
    for _ in range(depth - 1):
        value = [value] if in_lists else {"in": value}
    return value


_ODD_NUMBERS = [0, -0.0, 0.0, 1, 1.0, True, False, 1e308, 5e-324, 2**53 + 1, 2**63, 2**64 - 1, -(2**63)]  # fmt: skip
_REFUSED = [
    2**64, -(2**63) - 1, math.nan, math.inf, -math.inf, _Int(1), _Float(1.0), _Number.ONE, _Colour.RED, _Text("a"),
    (), (1, 2), _Pair(1, 2), {1}, frozenset(), b"bytes", bytearray(), 1j, decimal.Decimal(1), uuid.UUID(int=1),
    datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), _Data(), object(), int, len,
    _Dict(a=1), _Dict(), _List([1]), _List(), collections.OrderedDict(a=1), collections.defaultdict(list), _Liar(),
    {1: "a"}, {None: 1}, {True: 1}, {(1,): 1}, {_Colour.RED: 1}, {_Text("a"): 1}, {1.5: 1}, {b"a": 1}, {"a": 1, 2: 3},
    "\ud800", "a\udfffb", {"\udc80": 1}, range(3), iter(()), NotImplemented, ..., _cyclic(),
]  # fmt: skip

_TEXT = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    ["", "\0", "'", '"', "%s", "\u202egnp.exe", "e\u0301", "🙂", "\U0010ffff", "\ufeff", "\u2028", "{{ x }}", "\\u0000"]
)
_SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT | st.sampled_from(_ODD_NUMBERS)
)  # fmt: skip
_SPECIALS = [
    *_REFUSED,
    "x" * 100_000,
    ["y" * 3_000] * 30,
    *(_nested(_DEEPEST + more, in_lists=flag) for more in (-2, -1, 0, 1, 5_000) for flag in (True, False)),
]


def _special(place: int) -> Any:
    return _SPECIALS[place]


_SPECIAL = st.integers(0, len(_SPECIALS) - 1).map(_special)  # sampled, they would have to have a repr


def _values(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(_TEXT, inner, max_size=4)
            | st.lists(leaves, min_size=30, max_size=40)
        ),
        max_leaves=25,
    )


_VALUES = _values(_SCALARS) | _values(_SCALARS | _SPECIAL) | _SPECIAL

_NAMES: st.SearchStrategy[Any] = (
    st.text(st.characters(), max_size=12)
    | st.sampled_from([
        "a", "a'b\"c", "a\0b", "%", "_", "100%_", "\u202egnp.exe", "\u200f", "🙂", "e\u0301", "\u00e9", " ", "\n", "\t",
        "NULL", "\ud800", "\udc80", "x" * 512, "x" * 513, "ü" * 256, "ü" * 256 + "x", "🙂" * 128, "🙂" * 128 + "x",
        "x" * 10_000, "", "a,b", "1.0,a", "../../etc/passwd", "\\", "$1", ":name", "?", "--", "/*", "\U0010ffff",
    ])
    | st.sampled_from([None, 7, 1.5, b"bytes", True, (), [], {}, _Text("a"), _Colour.RED, _Liar()])
)  # fmt: skip

_FIELDS = st.fixed_dictionaries({}, optional={
    "created_at": st.floats() | st.sampled_from([0, -1, 2**70, 10**400, "now", None, True, -0.0, 5e-324]),
    "current_wave_index": st.integers(-(2**40), 2**40)
    | st.sampled_from([2**31 - 1, 2**31, -(2**31) - 1, True, 1.0, "1"]),
    "pause_prompt": st.none() | _TEXT | st.sampled_from(["\0", "\ud800", 7, _Text("a"), "p" * 50_000]),
    "paused_block_id": st.none() | _TEXT | st.sampled_from([7, "\ud800"]),
    "schema_version": st.sampled_from([1, 0, 2, True, "1", 2**40]),
    "status": st.sampled_from(["running", "completed", "failed", "cancelled", "zombie", None, 7, "\0"]),
    "child_checkpoint_id": st.none() | _TEXT,
    "completed_blocks": st.lists(_TEXT, max_size=2) | st.sampled_from([(), None, "abc", [1]]),
    "workflow_stack": st.lists(_VALUES, max_size=2),
    "pause_metadata": st.none() | st.dictionaries(_TEXT, _VALUES, max_size=2) | _VALUES,
})  # fmt: skip


def _is_plain(value: Any, depth: int = 1) -> bool:
    """Whether it is JSON that comes back as it went in: said once more here, in the plainest of words."""
    kind = type(value)
    if kind is dict or kind is list:
        keys = list(value) if kind is dict else []
        inner = list(value.values()) if kind is dict else value
        are_texts = all(type(key) is str and _is_plain(key) for key in keys)
        return depth <= _DEEPEST and are_texts and all(_is_plain(one, depth + 1) for one in inner)
    is_text = kind is str and not any("\ud800" <= one <= "\udfff" for one in value)
    is_number = (kind is int and -(2**63) <= value < 2**64) or (kind is float and math.isfinite(value))
    return is_text or is_number or value is None or kind is bool


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same, down to the types, the bits of numbers and the order of keys."""
    if type(one) is not type(other):
        return False
    if type(one) is dict:
        return list(one) == list(other) and all(_is_same(one[key], other[key]) for key in one)
    if type(one) is list:
        return len(one) == len(other) and all(map(_is_same, one, other))
    if type(one) is float:
        return struct.pack("d", one) == struct.pack("d", other)
    return bool(one == other)


class _Trial:
    """Does the same with three stores, and compares.

    Attributes:
        accepted: How many states all three have saved.
        refused: How many calls all three have refused.
        changed: How many states came back as something else.
    """

    def __init__(self, stores: dict[str, CheckpointStore], verdict: Verdict) -> None:
        self.accepted = self.refused = self.changed = 0
        self._stores = stores
        self._verdict = verdict

    async def each(self, what: str, call: Callable[[CheckpointStore], Awaitable[Any]]) -> object:
        """What a call comes to on all stores: what it returns, or an exception."""
        outcomes: dict[str, Any] = {}
        for name, store in self._stores.items():
            try:
                outcomes[name] = await call(store)
            except Exception as error:  # noqa: BLE001 - it is what is compared
                outcomes[name] = error
        first = outcomes["memory"]
        for name, other in outcomes.items():
            is_error = isinstance(first, Exception)
            same = (type(first), str(first)) == (type(other), str(other)) if is_error else _is_same(first, other)
            if not same:
                self._break(f"{what}: memory {_shown(first)}, {name} {_shown(other)}")
        if isinstance(first, Exception):
            self.refused += 1
            if not isinstance(first, ValueError | CheckpointEncodeError) and "Lease" not in type(first).__name__:
                self._break(f"{what}: {_shown(first)}")
        return first

    def _break(self, line: str) -> None:
        if len(self._verdict.broken) < 20:
            self._verdict.broken.append(line)

    async def save(self, state: CheckpointState, value: object, **fence: Any) -> None:
        """Save a state, look at what came back, and at how it is listed."""
        outcome = await self.each("save", lambda store: store.save_checkpoint(state, **fence))
        if isinstance(outcome, CheckpointEncodeError) and not _is_plain(value):
            if not str(outcome).startswith(f"checkpoint {state.checkpoint_id!r}: context.value"):
                self._break(f"the path is not named: {outcome!s:.200}")
        elif not isinstance(outcome, Exception) and not _is_plain(value):
            self._break(f"a value that is not JSON was accepted: {_shown(value)}")
        if isinstance(outcome, Exception):
            return
        self.accepted += 1
        wanted = dataclasses.asdict(state)

        async def load(store: CheckpointStore) -> Any:
            loaded = await store.load_checkpoint(state.checkpoint_id)
            assert loaded is not None
            found = dataclasses.asdict(loaded)
            if not _is_same(found, wanted):
                self.changed += 1
                self._break(f"saved {wanted!r:.300}, loaded {found!r:.300}")
            return found

        await self.each("load", load)
        await self.each("list", lambda store: _listed(store, state.workflow_name, state.run_id))

    async def one(self, value: object, fields: dict[str, Any]) -> None:
        """Save a state with a value in it, and other fields that are odd."""
        try:
            state = make_state("value", **{"created_at": 1.0, "context": {"value": value}, **fields})
        except ValueError:
            self.refused += 1  # before any store has seen it
            return
        await (self._save_any(state) if fields else self.save(state, value))

    async def _save_any(self, state: CheckpointState) -> None:
        """The same of a state of which several fields may be wrong."""
        is_fine = all(_is_plain(one) for one in vars(state).values() if one is not state.status)
        outcome = await self.each("save", lambda store: store.save_checkpoint(state))
        if not isinstance(outcome, Exception):
            if not is_fine:
                self._break(f"what is not JSON was accepted: {_shown(state)}")
            await self.save(state, None)

    async def names(self, first: Any, second: Any, third: Any) -> None:
        """Use odd names wherever one can stand."""
        state = make_state("named", created_at=2.0)
        together = {"checkpoint_id": first, "workflow_name": second, "run_id": third}
        for changes in (*({name: first} for name in (*together, "parent_checkpoint_id")), together):
            await self.save(dataclasses.replace(state, **changes), None)
        await self.each("owner", lambda store: store.save_checkpoint(state, owner=first, lease_seconds=60))
        await self.each("follows", lambda store: store.save_checkpoint(state, follows=second, owner=first))
        await self.each("renew", lambda store: store.renew_lease(second, first, 60))
        await self.each("release", lambda store: store.release_claim("named", first))
        await self.each("load", lambda store: _data(store.load_checkpoint(first)))
        await self.each("pin", lambda store: store.pin_checkpoint(first))
        await self.each("list", lambda store: _listed(store, first, None))
        await self.each("list", lambda store: _listed(store, None, first))
        await self.each("delete", lambda store: store.delete_checkpoint(first))
        await self.each("delete run", lambda store: store.delete_run(third))
        await self.each("delete", lambda store: store.delete_checkpoint("named"))


async def _data(load: Awaitable[CheckpointState | None]) -> Any:
    loaded = await load
    return None if loaded is None else dataclasses.asdict(loaded)


async def _listed(store: CheckpointStore, workflow_name: Any, run_id: Any) -> list[Any]:
    """What a listing shows, but for sizes and encodings, which differ between stores, and when leases end."""
    found = await store.list_checkpoints(workflow_name, run_id=run_id)
    return [
        dataclasses.asdict(dataclasses.replace(one, stored_bytes=0, encoding="", lease_expires_at=None))
        for one in found
    ]


def _shown(value: object) -> str:
    try:
        return f"{type(value).__name__} {value!s:.150}" if isinstance(value, Exception) else f"{value!r:.150}"
    except RecursionError:
        return f"a deep {type(value).__name__}"


async def check(place: Place, effort: Effort) -> Verdict:
    """Give the same to all three stores."""
    verdict = Verdict({"values": 0})
    path = str(place.folder / "values.db")
    for url in (path, place.url):
        await upgrade_schema(url)
    async with (
        InMemoryCheckpointStore() as memory,
        SQLAlchemyCheckpointStore(path) as sqlite,
        SQLAlchemyCheckpointStore(place.url) as postgresql,
    ):
        trial = _Trial({"memory": memory, "sqlite": sqlite, "postgresql": postgresql}, verdict)
        for value in (*_REFUSED, *_ODD_NUMBERS):
            await trial.one(value, {})
        loop = asyncio.get_running_loop()

        def wait(work: Coroutine[Any, Any, T]) -> T:
            return asyncio.run_coroutine_threadsafe(work, loop).result()

        def search() -> int:
            return _search(trial, wait, effort)

        tried = await asyncio.to_thread(search)
    verdict.figures.update(
        {"values": tried, "saved": trial.accepted, "refused": trial.refused, "silent changes": trial.changed}
    )
    verdict.require(trial.accepted and trial.refused, "nothing was accepted, or nothing refused")
    return verdict


def _search(trial: _Trial, wait: Callable[[Coroutine[Any, Any, None]], None], effort: Effort) -> int:
    """Try what Hypothesis thinks of; how many values and names that were."""
    tried = 0

    def of(examples: int) -> Callable[[T], T]:
        chosen = settings(
            max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        return lambda test: seed(effort.seed)(chosen(test))  # type: ignore[type-var] # typed for tests

    @of(effort.of(1_500, 100))
    @given(_VALUES)
    def values(value: object) -> None:
        nonlocal tried
        tried += 1
        wait(trial.one(value, {}))

    @of(effort.of(1_000, 60))
    @given(_FIELDS)
    def fields(given: dict[str, Any]) -> None:
        nonlocal tried
        tried += len(given)
        wait(trial.one(1, given))

    @of(effort.of(220, 12))
    @given(_NAMES, _NAMES, _NAMES)
    def names(first: object, second: object, third: object) -> None:
        nonlocal tried
        tried += 3
        wait(trial.names(first, second, third))

    for test in (values, fields, names):
        test()
    return tried


ROW = Row(
    fault="hostile values",
    promise="All three stores accept the same and give it back exactly, or refuse it with the same words.",
    check=check,
    databases=("all",),
)
