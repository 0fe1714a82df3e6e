"""Damage to a state that others are deltas of: noticed, named, and no obstacle to anything else."""

import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest

from tests.conftest import OpenStore
from tests.migrations import raw
from tests.persistence.chained import bases_of, broken_of, needs, run_of, save_run
from tests.persistence.examined import examined, problems
from workflows_mcp import (
    CheckpointDecodeError,
    CheckpointState,
    InMemoryCheckpointStore,
    SQLAlchemyCheckpointStore,
    copy_checkpoints,
    export_checkpoints,
    import_checkpoints,
)
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.persistence import codec
from workflows_mcp.persistence.codec import pack_delta
from workflows_mcp.testing import assert_same

pytestmark = pytest.mark.parametrize("database", ["sqlite"])  # which takes what PostgreSQL refuses

LINK = "run-006"


def flipped(payload: bytes) -> bytes:
    """With another bit in its midst."""
    middle = len(payload) // 2
    return payload[:middle] + bytes([payload[middle] ^ 1]) + payload[middle + 1 :]


def summed(body: bytes) -> bytes:
    """A payload whose checksum is right."""
    return zlib.crc32(body).to_bytes(4, "big") + body


def unfit(states: list[CheckpointState]) -> bytes:
    """A delta of something else."""
    frame = pack_delta(encode_state(states[6]), encode_state(states[2]))
    assert frame is not None
    return summed(frame)


WAYS: dict[str, Callable[[sqlite3.Connection, list[CheckpointState]], tuple[str, str]]] = {}
"""How something is damaged; returns the broken link's id and what is said of it."""


def way(damage: Callable[[sqlite3.Connection, list[CheckpointState]], tuple[str, str]]) -> None:
    """Take one."""
    WAYS[damage.__name__] = damage


def set_of(file: sqlite3.Connection, assignment: str, *values: object, link: str = LINK) -> None:
    """Change a row."""
    assert file.execute(f"UPDATE checkpoints SET {assignment} WHERE checkpoint_id = ?", [*values, link]).rowcount == 1


def payload_of(file: sqlite3.Connection, link: str) -> bytes:
    """That of a row."""
    [[payload]] = file.execute("SELECT payload FROM checkpoints WHERE checkpoint_id = ?", [link])
    assert isinstance(payload, bytes)
    return payload


@way
def a_bit_is_another_one(file: sqlite3.Connection, _: list[CheckpointState]) -> tuple[str, str]:
    """A bit is another one."""
    set_of(file, "payload = ?", flipped(payload_of(file, LINK)))
    return LINK, "its checksum does not match"


@way
def payloads_are_exchanged(file: sqlite3.Connection, _: list[CheckpointState]) -> tuple[str, str]:
    """Payloads are exchanged."""
    set_of(file, "payload = ?", payload_of(file, "run-004"))
    return LINK, "it is no zstd frame, or one of another state"


@way
def a_whole_one_is_another_state(file: sqlite3.Connection, states: list[CheckpointState]) -> tuple[str, str]:
    """A whole one is another state."""
    set_of(file, "encoding = 'json', payload = ?", summed(encode_state(states[4])), link="run-000")
    return "run-000", "it "


@way
def a_whole_one_is_nearly_nothing(file: sqlite3.Connection, _: list[CheckpointState]) -> tuple[str, str]:
    """A whole one is nearly nothing."""
    set_of(file, "encoding = 'json', payload = ?", summed(b"{}"), link="run-000")
    return "run-000", ""


@way
def it_is_a_delta_of_something_else(file: sqlite3.Connection, states: list[CheckpointState]) -> tuple[str, str]:
    """It is a delta of something else."""
    set_of(file, "payload = ?", unfit(states))
    return LINK, "it is no zstd frame, or one of another state"


@way
def it_is_gone(file: sqlite3.Connection, _: list[CheckpointState]) -> tuple[str, str]:
    """It is gone."""
    file.execute("DELETE FROM checkpoints WHERE checkpoint_id = ?", [LINK])
    return LINK, "which is missing"


@way
def its_digest_is_another_one(file: sqlite3.Connection, _: list[CheckpointState]) -> tuple[str, str]:
    """Its digest is another one."""
    set_of(file, "state_digest = 'something'")
    return LINK, "which is not the state any more that it was"


@way
def it_is_in_a_circle(file: sqlite3.Connection, _: list[CheckpointState]) -> tuple[str, str]:
    """It is in a circle."""
    [digest] = file.execute("SELECT state_digest FROM checkpoints WHERE checkpoint_id = 'run-007'").fetchone()
    set_of(file, "base_checkpoint_id = 'run-007', base_digest = ?", digest)
    return "", "itself by way of others"


@way
def its_base_is_a_number(file: sqlite3.Connection, _: list[CheckpointState]) -> tuple[str, str]:
    """Its base is a number."""
    set_of(file, "base_checkpoint_id = x'00ff'")
    return "", "b'\\x00\\xff', which is missing"


@way
def it_has_no_base(file: sqlite3.Connection, _: list[CheckpointState]) -> tuple[str, str]:
    """It has no base."""
    set_of(file, "base_checkpoint_id = NULL")
    return LINK, "the checkpoint that it is a delta of is missing"


@way
def it_is_text(file: sqlite3.Connection, _: list[CheckpointState]) -> tuple[str, str]:
    """It is text."""
    set_of(file, "payload = 'text'")
    return LINK, "it is not bytes, but str"


@way
def it_says_that_it_is_whole(file: sqlite3.Connection, _: list[CheckpointState]) -> tuple[str, str]:
    """It says that it is whole."""
    set_of(file, "encoding = 'zstd'")
    return LINK, "it is no zstd frame"


_ALSO_MOVED = {"a_bit_is_another_one", "it_is_gone", "it_is_in_a_circle", "its_base_is_a_number"}


@pytest.mark.parametrize("damage", WAYS)
async def test_a_broken_link_is_named_by_exactly_what_needs_it(
    open_store: OpenStore, database_url: str, damage: str
) -> None:
    """By loading, iterating and an examination. What can be read goes elsewhere, and what cannot can be deleted."""
    states = run_of(12)
    await save_run(open_store(), states)
    bases = await bases_of(database_url)
    with closing(sqlite3.connect(database_url)) as file:
        link, told = WAYS[damage](file, states)
        file.commit()
    is_gone = damage == "it_is_gone"
    there = [one for one in states if not (is_gone and one.checkpoint_id == LINK)]
    store = open_store()
    broken = await broken_of(store, there)
    needing = needs(bases, link if link in bases or link == "run-000" else LINK) - ({LINK} if is_gone else set())
    if damage == "its_digest_is_another_one":
        needing.remove(LINK)  # it is whole itself
    assert broken.keys() == needing
    for name, error in broken.items():
        assert type(error) is CheckpointDecodeError
        assert told in str(error), (name, error)
        assert not link or link in str(error)
        assert "delete it" in str(error)
        assert not link or (error.link or name) == link, (name, error)
    # What an examination says of it, and that it does not mind where it goes on.
    found = await examined(database_url, deep=True)
    assert found["payloads"].found.startswith(f"of all {len(there)}, {len(broken)} cannot be read: ")
    others = sum(error.link is not None for error in broken.values())
    assert (f"{others} of these are deltas, and need another one" in found["payloads"].found) is (others > 0)
    assert not (link and others) or f"{link!r} by {others}" in found["payloads"].found
    if damage in _ALSO_MOVED:
        await _move_and_delete(store, there, needing)


async def _move_and_delete(store: SQLAlchemyCheckpointStore, there: list[CheckpointState], needing: set[str]) -> None:
    """What can be read goes elsewhere, and no damage is in the way of a deletion."""
    # Elsewhere arrives what can be read.
    memory = InMemoryCheckpointStore()
    left: list[str] = []
    await copy_checkpoints(store, memory, on_damaged=lambda name, _: left.append(name))
    assert sorted(left) == sorted(needing)
    assert [one async for one in memory.iter_checkpoints()] == [
        one for one in there[::-1] if one.checkpoint_id not in needing
    ]
    # Nothing is in the way of a deletion.
    for name in ("run-004", "run-010"):
        assert await store.delete_checkpoint(name)
    rest = [one for one in there if one.checkpoint_id not in {"run-004", "run-010"}]
    assert (await broken_of(store, rest)).keys() == needing - {"run-004", "run-010"}
    assert await store.trim_per_workflow(2) == len(rest) - 2
    await broken_of(store, rest[-2:])
    assert await store.delete_run("run") == 2


async def test_no_chain_is_too_long_or_too_large_to_be_refused(
    open_store: OpenStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of 2,000 by hand, and a delta of few bytes that unpacks to more than there may be."""
    [state] = run_of(1)
    store = open_store()
    await store.save_checkpoint(state)
    with closing(sqlite3.connect(database_url)) as file:
        columns = [name for _, name, *_ in file.execute("PRAGMA table_info(checkpoints)")]
        frame = pack_delta(encode_state(state), encode_state(state))
        assert frame is not None
        changed = {
            "checkpoint_id": "'n' || v",
            "base_checkpoint_id": "CASE v WHEN 1 THEN 'run-000' ELSE 'n' || (v - 1) END",
            "base_digest": "state_digest",
            "encoding": "'zstd-delta'",
            "payload": f"x'{summed(frame).hex()}'",
            "superseded": "1",
        }
        made = ", ".join(changed.get(name, name) for name in columns)
        file.execute(
            "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 2000) "
            f"INSERT INTO checkpoints SELECT {made} FROM checkpoints, n"
        )
        file.commit()
    with pytest.raises(
        CheckpointDecodeError, match=r"'n2000' is stored as a delta.* is one of more than 1,000 "
    ) as caught:
        await store.load_checkpoint("n2000")
    assert caught.value.link is not None
    with pytest.raises(CheckpointDecodeError, match=r"n900"):  # it holds what 'run-000' is
        await store.load_checkpoint("n900")
    monkeypatch.setattr(codec, "MAX_STATE_BYTES", 6_000)
    with pytest.raises(CheckpointDecodeError, match=r"'n3' is stored as a delta.* unpacks to more than 6,000 bytes"):
        await store.load_checkpoint("n3")
    assert await store.delete_run("run") == 2001


async def test_an_examination_finds_deltas_without_their_bases(open_store: OpenStore, database_url: str) -> None:
    """Also those that it does not read; and says how many there are of all."""
    await save_run(open_store(), run_of(12))
    whole = (await examined(database_url))["deltas"].found
    assert whole == "11 checkpoints are stored as deltas of others, which are all there"
    await raw.execute(database_url, "DELETE FROM checkpoints WHERE checkpoint_id = 'run-008'")
    found = await examined(database_url)
    assert problems(found) == {"deltas", "payloads"}
    told = "of 10 checkpoints that are stored as deltas, 1 lack the one that they are a delta of: 'run-009'"
    assert found["deltas"].found == told
    assert (
        "; 3 of these are deltas, and need another one that is not to be read: 'run-008' by 3"
        in found["payloads"].found
    )


async def test_a_good_copy_of_a_broken_link_mends_all_that_needs_it(open_store: OpenStore, database_url: str) -> None:
    """Imported in its place from a file: nothing else needs to be."""
    states = run_of(12)
    store = open_store()
    await save_run(store, states)
    file = f"{database_url}.jsonl"
    await export_checkpoints(store, file)
    with closing(sqlite3.connect(database_url)) as connection:
        set_of(connection, "payload = ?", flipped(payload_of(connection, LINK)))
        connection.commit()
    reopened = open_store()
    assert (await broken_of(reopened, states)).keys() == {"run-006", "run-007"}
    assert await import_checkpoints(reopened, file, on_conflict="replace") == 12
    for state in states:
        assert_same(await open_store().load_checkpoint(state.checkpoint_id), state)


@pytest.mark.parametrize("link", ["run-002", "run-003"])
async def test_a_payload_that_is_no_bytes_is_damage_and_leaves_nothing_claimed(
    open_store: OpenStore, database_url: str, link: str
) -> None:
    """A number, in a delta or in what that needs."""
    states = run_of(4)
    await save_run(open_store(), states)
    await raw.execute(database_url, f"UPDATE checkpoints SET payload = 5 WHERE checkpoint_id = '{link}'")
    store = open_store()
    told = f"'{link}' is damaged: it is not bytes, but int"
    with pytest.raises(CheckpointDecodeError, match=told):
        await store.load_checkpoint("run-003")
    with pytest.raises(CheckpointDecodeError, match=told):
        await store.claim_checkpoint("run-003", "me", 60)
    assert await raw.fetch(database_url, "SELECT 1 FROM checkpoints WHERE lease_owner IS NOT NULL") == []
    for state in reversed(states):
        assert await store.delete_checkpoint(state.checkpoint_id)


async def test_whatever_goes_wrong_after_a_claim_takes_it_back(
    open_store: OpenStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what nobody has thought of."""
    store = open_store()
    await save_run(store, run_of(1))
    monkeypatch.setattr(store._codec, "contents", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await store.claim_checkpoint("run-000", "me", 60)
    assert await raw.fetch(database_url, "SELECT 1 FROM checkpoints WHERE lease_owner IS NOT NULL") == []


@pytest.mark.parametrize("encoding", ["zstd-delta-2", "aes-256-gcm:k:0123456789abcdef:zstd-delta-2"])
async def test_what_a_newer_version_has_encoded_keeps_its_base(
    open_store: OpenStore, database_url: str, encoding: str
) -> None:
    """As one does whose key is missing, also where the base is saved again: it may be whole, and is not cut off."""
    states = run_of(3)
    await save_run(open_store(), states)
    await raw.execute(database_url, f"UPDATE checkpoints SET encoding = '{encoding}' WHERE checkpoint_id = 'run-001'")
    store, before = open_store(), await bases_of(database_url)
    with pytest.raises(CheckpointDecodeError, match=r"'run-001' is damaged: its encoding .*is unknown"):
        await store.delete_checkpoint("run-000")
    for changed in (replace(states[0], runtime_inputs={"n": 1}), replace(states[1], runtime_inputs={"n": 1})):
        with pytest.raises(CheckpointDecodeError, match="unknown"):
            await store.save_checkpoint(changed)
    assert await bases_of(database_url) == before
    assert await store.trim_per_workflow(1) == 0
    assert await store.delete_run("run") == 3
