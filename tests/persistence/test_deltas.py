"""Which state of a run is stored as a delta of which, and which states are kept in memory for that."""

import base64
import dataclasses
import functools
import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.persistence.chained import wave
from workflows_mcp import CheckpointDecodeError, CheckpointState, CheckpointStatus
from workflows_mcp.engine.contract import columns_of
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.persistence.codec import ZSTD_DELTA, pack_delta, unpack
from workflows_mcp.persistence.deltas import LEAST_BYTES, MOST_LINKS, Deltas, Linked, Plains, Step
from workflows_mcp.persistence.row_codec import RowCodec
from workflows_mcp.testing import assert_same

MEBIBYTE = 2**20
CHECKSUM_BYTES = 4


class Table:
    """Saves states one after the other as a store does, into a table of its own.

    Args:
        deltas: What is in memory.

    Attributes:
        rows: What was saved, by its id: the columns of a row.
    """

    def __init__(self, deltas: Deltas) -> None:
        self.deltas = deltas
        self.codec = RowCodec()
        self.rows: dict[str, dict[str, Any]] = {}

    def begin(self, state: CheckpointState) -> Step:
        """Begin a save."""
        return self.deltas.step(state)

    def finish(self, step: Step, state: CheckpointState) -> dict[str, Any]:
        """Store it; nobody has been told yet."""
        columns = {**columns_of(state), "status": str(state.status)}
        self.rows[state.checkpoint_id] = row = self.codec.filled(columns, encode_state(state), step)
        return row

    def save(self, state: CheckpointState) -> dict[str, Any]:
        """All of it."""
        step = self.begin(state)
        row = self.finish(step, state)
        self.deltas.saved(step)
        return row

    def chain(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """A row and all that loading it takes, the nearest first."""
        chain = [row]
        while (base := chain[-1]["base_checkpoint_id"]) is not None:
            assert self.rows[base]["state_digest"] == chain[-1]["base_digest"]
            chain.append(self.rows[base])
        return chain

    def load(self, checkpoint_id: str) -> CheckpointState:
        """A state, by its chain alone."""
        row, *links = [self._loaded(one) for one in self.chain(self.rows[checkpoint_id])]
        return self.codec.state(Linked(row, links=links[::-1]))

    def _loaded(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[column.name] for column in self.codec.loading.columns)


@pytest.fixture
def table() -> Table:
    """An empty one, and room for all that is saved into it."""
    return Table(Deltas(64 * MEBIBYTE))


# --- which state is a delta of which


def base_number(number: int) -> int:
    """The number of the base of a state, by the rule: of the newest one whose number is divisible by 64, 8 or 1."""
    level = next(step for step in (64, 8, 1) if number % step == 0)
    return (number - 1) // level * level


def test_a_state_is_a_delta_of_the_newest_one_of_its_level(table: Table) -> None:
    """State 0 is whole, 7 is a delta of 6, 8 of 0, 9 of 8, 16 of 8, 64 of 0, and 65 of 64."""
    rows = [table.save(wave(number)) for number in range(200)]
    assert rows[0]["base_checkpoint_id"] is None
    for number, row in enumerate(rows[1:], 1):
        assert row["base_checkpoint_id"] == f"r {base_number(number)}", number
        assert row["encoding"] == ZSTD_DELTA


def test_no_chain_of_three_thousand_states_is_longer_than_thirty(table: Table) -> None:
    """Each state loads equal by means of its chain alone, and few are stored whole."""
    states = [wave(number, size=4100, created_at=1.0) for number in range(3000)]
    for state in states:
        table.save(state)
    lengths = [len(table.chain(row)) - 1 for row in table.rows.values()]
    assert 20 <= max(lengths) <= MOST_LINKS
    assert sum(length == 0 for length in lengths) <= 3
    for state in random.Random(7).sample(states, 60):
        assert_same(table.load(state.checkpoint_id), state)


def test_claims_again_and_again_make_no_chain_longer_than_thirty() -> None:
    """Each process goes on from the state that it has claimed, whatever that is a delta of."""
    table = Table(Deltas(MEBIBYTE))
    for number in range(100):
        row = table.save(wave(number))
        chain = [table._loaded(one) for one in table.chain(row)]
        table.deltas = Deltas(MEBIBYTE)
        table.deltas.loaded(Linked(chain[0], links=chain[:0:-1]), "r", encode_state(wave(number)))
    assert max(len(table.chain(row)) - 1 for row in table.rows.values()) == MOST_LINKS


def test_loading_reads_no_more_bytes_than_the_state_has(table: Table) -> None:
    """Of a run that replaces a part of its state each time, however large that is."""
    chance = random.Random(7)
    state = {str(part): chance.randbytes(300).hex() for part in range(10)}
    wholes = 0
    for number in range(300):
        for _ in range(chance.choice((1, 1, 1, 3, 9))):
            state[str(chance.randrange(10))] = chance.randbytes(300).hex()
        row = table.save(wave(number, context=dict(state)))
        assert sum(one["stored_bytes"] for one in table.chain(row)) <= row["full_bytes"] + CHECKSUM_BYTES
        wholes += row["base_checkpoint_id"] is None
    assert 1 < wholes < 300


@pytest.mark.parametrize(
    "state",
    [
        wave(1, status=CheckpointStatus.PAUSED, paused_block_id="b"),
        wave(1, context={"text": "x" * (LEAST_BYTES // 2)}),
        wave(1, run_id=None),
        wave(1, run_id="another"),
        wave(0),
    ],
    ids=["paused", "small", "of no run", "of another run", "the base itself, once more"],
)
def test_what_is_stored_whole_all_the_same(table: Table, state: CheckpointState) -> None:
    """Beside a state that it might have been a delta of."""
    table.save(wave(0))
    row = table.save(state)
    assert (row["base_checkpoint_id"], row["base_digest"]) == (None, None)
    assert row["encoding"] != ZSTD_DELTA
    assert_same(table.codec.state(table._loaded(row)), state)


def test_small_states_and_those_of_no_run_are_nobodys_base(table: Table) -> None:
    """They have no digest, which others could refer to."""
    assert table.save(wave(0, context={}))["state_digest"] is None
    assert table.save(wave(1))["base_checkpoint_id"] is None
    assert table.save(wave(0, run_id=None))["state_digest"] is None
    assert table.save(wave(1, run_id=None))["base_checkpoint_id"] is None


def test_a_run_goes_on_from_a_question_with_deltas_of_it(table: Table) -> None:
    """The paused state is whole, and the next ones count from there."""
    for number in range(5):
        table.save(wave(number))
    table.save(wave(5, status=CheckpointStatus.PAUSED, paused_block_id="b"))
    assert table.save(wave(6))["base_checkpoint_id"] == "r 5"


def test_the_digest_tells_the_contents_of_one_id_apart(table: Table) -> None:
    """By 96 bits of SHA-256, in 16 characters."""
    first, other = table.save(wave(0)), table.save(dataclasses.replace(wave(0), current_wave_index=1))
    assert first["state_digest"] != other["state_digest"]
    plain = encode_state(state := wave(3))
    wanted = base64.urlsafe_b64encode(hashlib.sha256(plain).digest()[:12]).decode()
    assert table.save(state)["state_digest"] == wanted
    assert len(wanted) == 16


# --- the frames


def test_a_frame_that_is_unpacked_with_another_state_is_seen_to_be_wrong() -> None:
    """Whether that is longer, shorter, or differs in a letter."""
    plain, base = encode_state(wave(1)), encode_state(wave(0))
    frame = pack_delta(plain, base)
    assert frame is not None
    assert unpack((ZSTD_DELTA, frame), "x", base) == plain
    for wrong in (base + b" ", base[:-1], base.replace(b"a", b"b", 1), b"", encode_state(wave(0, size=9000))):
        with pytest.raises(CheckpointDecodeError, match="'x'"):
            unpack((ZSTD_DELTA, frame), "x", wrong)
    with pytest.raises(CheckpointDecodeError, match=r"'x'.*is missing"):
        unpack((ZSTD_DELTA, frame), "x")


def test_frames_that_many_threads_make_at_once_are_right() -> None:
    """Of states of all sizes, of the same base and of others."""
    sizes = (4500, 70_000, 200_000)
    plains = [[encode_state(wave(number, size=size)) for number in range(6)] for size in sizes]
    pairs = [(plain, base) for some in plains for base in some[:2] for plain in some]
    started = threading.Barrier(4)

    def pack(number: int) -> bool:
        if number < 4:
            started.wait()
        plain, base = pairs[number]
        frame = pack_delta(plain, base)
        return frame is not None and len(frame) < 400 and unpack((ZSTD_DELTA, frame), "x", base) == plain

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(pack, range(len(pairs))))


# --- what is in memory


def kept(deltas: Deltas) -> int:
    """How many bytes of plain JSON are kept."""
    bases = {id(base.plain): base.plain for run in deltas._runs.values() for base in run.bases}
    return sum(map(len, bases.values()))


def test_the_cache_never_holds_more_than_it_may() -> None:
    """Whatever runs there are, and however large their states; its own count is right at every moment."""
    most = 40_000
    table, chance = Table(Deltas(most)), random.Random(7)
    sizes = {f"{run}": 4100 + 900 * run for run in range(9)}
    deltas = 0
    for number in range(600):
        run_id = chance.choice(sorted(sizes))
        row = table.save(wave(number, run_id, sizes[run_id], status=_status(chance.random())))
        assert kept(table.deltas) == table.deltas.kept_bytes <= most
        assert {one for run in table.deltas._runs.values() for one in run.bases} == set(table.deltas._by_id.values())
        deltas += row["base_checkpoint_id"] is not None
    assert 50 < deltas < 550


def _status(chance: float) -> CheckpointStatus:
    return CheckpointStatus.COMPLETED if chance < 0.05 else CheckpointStatus.RUNNING


def test_the_run_that_was_saved_least_recently_is_forgotten_first() -> None:
    """Not the one that began first."""
    table = Table(Deltas(3 * 6000))
    for run_id in ("a", "b", "c"):
        table.save(wave(0, run_id))
    table.save(wave(0, "a"))
    table.save(wave(0, "d"))
    assert list(table.deltas._runs) == ["c", "a", "d"]


def test_a_state_that_does_not_fit_forgets_its_run_alone() -> None:
    """The others stay."""
    table = Table(Deltas(20_000))
    table.save(wave(0, "a"))
    table.save(wave(0, "b"))
    table.save(wave(1, "b", 30_000))
    assert list(table.deltas._runs) == ["a"]
    assert table.deltas.kept_bytes == kept(table.deltas)


def test_without_a_cache_nothing_is_a_delta() -> None:
    """Setting it to 0 turns deltas off."""
    table = Table(Deltas(0))
    rows = [table.save(wave(number)) for number in range(20)]
    assert all(row["base_checkpoint_id"] is None for row in rows)


@pytest.mark.parametrize("status", [CheckpointStatus.COMPLETED, CheckpointStatus.FAILED, CheckpointStatus.CANCELLED])
def test_a_run_that_is_over_is_forgotten(table: Table, status: CheckpointStatus) -> None:
    """Its last state is a delta like any other."""
    table.save(wave(0))
    assert table.save(wave(1, status=status))["base_checkpoint_id"] == "r 0"
    assert (table.deltas._runs, table.deltas._by_id, table.deltas.kept_bytes) == ({}, {}, 0)


def test_a_save_that_nobody_was_told_of_is_nobodys_base(table: Table) -> None:
    """It may not be durable."""
    table.save(wave(0))
    table.finish(table.begin(wave(1)), wave(1))
    assert table.save(wave(2))["base_checkpoint_id"] == "r 0"


@pytest.mark.parametrize("seed", range(3))
def test_saves_that_overtake_one_another_leave_chains_that_are_right(table: Table, seed: int) -> None:
    """Whichever is durable first: no base goes back behind one that is newer, and every chain ends."""
    chance = random.Random(seed)
    states = {(number, half): wave(2 * number + half) for number in range(100) for half in (0, 1)}
    under_way: list[functools.partial[None]] = []
    for state in states.values():
        step = table.begin(state)
        table.finish(step, state)
        under_way.append(functools.partial(table.deltas.saved, step))
        while len(under_way) > chance.randint(0, 6):
            under_way.pop(chance.randrange(len(under_way)))()
            if (run := table.deltas._runs.get("r")) is not None:
                numbers = [int(base.checkpoint_id.split()[1]) for base in run.bases]
                assert len(numbers) == 3
    assert max(len(table.chain(row)) - 1 for row in table.rows.values()) <= MOST_LINKS
    for state in states.values():
        assert_same(table.load(state.checkpoint_id), state)


def test_a_save_that_was_overtaken_takes_nobodys_place(table: Table) -> None:
    """The newest state stays the base of the next one."""
    table.save(wave(0))
    slow = table.begin(wave(1))
    for number in (2, 3, 4):
        table.save(wave(number))
    table.finish(slow, wave(1))
    table.deltas.saved(slow)
    assert table.save(wave(5))["base_checkpoint_id"] == "r 4"


def test_what_was_unpacked_is_kept_up_to_so_many_bytes() -> None:
    """What was used last stays; the same row twice counts once."""
    plains = Plains(100)
    rows = [(str(number), "digest", None, None, "json", b"") for number in range(5)]
    for row in rows[:3]:
        plains.keep(row, b"x" * 40)
    assert [plains.get(row) is not None for row in rows[:3]] == [False, True, True]
    for _ in range(3):
        plains.keep(rows[2], b"x" * 40)
    assert plains.get(rows[1]) is not None
    plains.keep(rows[3], b"x" * 40)
    assert [plains.get(row) is not None for row in rows[:4]] == [False, True, False, True]
