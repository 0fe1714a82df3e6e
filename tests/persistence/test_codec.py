"""Payloads: what is stored of a state, and what happens when it is damaged."""

import collections
import datetime
import enum
import http
import json
import random
import re
import uuid
import zlib
from typing import Any, NamedTuple

import orjson
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from workflows_mcp import CheckpointDecodeError, CheckpointEncodeError, CheckpointState
from workflows_mcp.engine.plain_json import why_not_json
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.persistence.codec import (
    GUIDE_JSON,
    JSON,
    ZSTD,
    ZSTD_DELTA,
    pack_body,
    pack_delta,
    payload_of,
    unpack,
)
from workflows_mcp.persistence.row_codec import RowCodec
from workflows_mcp.testing import assert_same, make_state


class Payload(NamedTuple):
    """A payload and its encoding."""

    encoding: str
    data: bytes


def pack(plain: bytes) -> Payload:
    """The payload of a state's plain JSON."""
    body = pack_body(plain)
    return Payload(body[0], payload_of(body))


def encode(state: CheckpointState) -> Payload:
    """What is stored of a state."""
    return pack(encode_state(state))


def decode(encoding: str, data: bytes, checkpoint_id: str = "checkpoint") -> CheckpointState:
    """What a row with this payload loads as."""
    row = (checkpoint_id, "workflow", 1.0, None, None, None, encoding, data)
    return RowCodec().state(row)


def sealed(body: bytes) -> bytes:
    """A body under a checksum that fits it."""
    return zlib.crc32(body).to_bytes(4, "big") + body


TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=30,
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_any_json_comes_back_exactly(context: dict[str, object]) -> None:
    """Types and order of keys included."""
    state = make_state(context=context)
    payload = encode(state)
    assert_same(decode(payload.encoding, payload.data), state)


def test_small_states_are_stored_as_they_are_and_large_ones_compressed() -> None:
    """Compression where it pays; what does not shrink stays plain."""
    assert encode(make_state()).encoding == JSON
    large = encode(make_state(context={"text": "word " * 1000}))
    assert large.encoding == ZSTD
    assert len(large.data) < len(unpack((large.encoding, large.data[4:]), "checkpoint")) / 10


@pytest.mark.parametrize("empty", [[], {}, [1], {"a": 1}])
@pytest.mark.parametrize("levels", [97, 98, 99, 100, 101])
def test_what_is_refused_is_what_is_said_to_be_refused(empty: object, levels: int) -> None:
    """The quick check of a save, and the slow one that knows the path, agree on the deepest nesting."""
    value = empty
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    state = make_state(context={"value": value})
    if why_not_json(state.context, "context") is None:
        assert encode_state(state)
    else:
        with pytest.raises(CheckpointEncodeError, match="nesting deeper"):
            encode_state(state)


class Colour(enum.StrEnum):
    """A str that is no str."""

    RED = "red"


class Name(str):
    """Neither is this one."""

    __slots__ = ()


ODD_KEYS = st.sampled_from([1, None, True, Name("a"), Colour.RED, ("a",)])
ODD_VALUES = st.sampled_from([
    object(), Colour.RED, Name("a"), http.HTTPStatus.OK, (1,), {1}, b"x", 1j, uuid.UUID(int=1),
    datetime.date(2026, 1, 1), collections.OrderedDict(a=1), orjson.Fragment(b"1"), "\ud800", -(2**63) - 1, 2**64,
])  # fmt: skip


@given(
    VALUES
    | st.lists(ODD_VALUES | st.floats() | st.integers() | st.tuples(), max_size=3)
    | st.dictionaries(ODD_KEYS | TEXT, TEXT | ODD_VALUES, max_size=3)
    | st.lists(st.floats(), min_size=30, max_size=40)
    | st.lists(st.floats() | ODD_VALUES | TEXT, min_size=30, max_size=40)
)
def test_the_quick_check_says_what_the_slow_one_says(value: object) -> None:
    """For values of all kinds, and for long lists, which are looked at otherwise: refused, or exactly as it was."""
    state = make_state(context={"value": value})
    refusal = why_not_json(state.context, "context")
    if refusal is None:
        payload = encode(state)
        assert_same(decode(payload.encoding, payload.data), state)
    else:
        with pytest.raises(CheckpointEncodeError, match=re.escape(refusal)):
            encode_state(state)


@pytest.mark.parametrize("size", [0, 5000])
def test_every_flipped_bit_is_noticed(size: int) -> None:
    """In a plain and in a compressed payload."""
    payload = encode(make_state(context={"text": "x" * size}))
    for index in range(len(payload.data)):
        damaged = bytearray(payload.data)
        damaged[index] ^= 1 << (index % 8)
        with pytest.raises(CheckpointDecodeError, match="checksum"):
            decode(payload.encoding, bytes(damaged))


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 50, -1])
def test_a_payload_that_was_cut_off_is_noticed(length: int) -> None:
    """Wherever it ends."""
    payload = encode(make_state())
    with pytest.raises(CheckpointDecodeError, match="damaged"):
        decode(payload.encoding, payload.data[:length])


PLAIN = encode_state(make_state())
FIELDS = json.loads(PLAIN)


@pytest.mark.parametrize(
    ("encoding", "body", "message"),
    [
        ("zstd", b"no frame", "no zstd frame"),
        ("zstd", zstd.compress(PLAIN)[:-5], "cut off"),
        ("zstd", zstd.compress(b"not json"), "not JSON"),
        ("zstd", zstd.compress(bytes(257 * 2**20)), "unpacks to more"),
        ("json", b"not json", "not JSON"),
        ("json", b"[" * 100_000, "not JSON"),
        ("json", b'{"context": NaN}', "not JSON"),
        ("json", b"\xff\xfe", "not JSON"),
        ("json", b"[]", "no JSON object"),
        ("json", b"{}", "missing"),
        ("json", encode_state(make_state("other")), "another checkpoint"),
        ("json", json.dumps({**FIELDS, "schema_version": 2}).encode(), "upgrade workflows-mcp"),
        ("json", json.dumps({**FIELDS, "surprise": 1}).encode(), "unknown"),
        ("json", json.dumps({**FIELDS, "context": []}).encode(), "context is a list"),
        ("json", json.dumps({**FIELDS, "status": "paused"}).encode(), "contradict"),
        ("json", json.dumps({**FIELDS, "status": "asleep"}).encode(), "contradict"),
        ("json", json.dumps({**FIELDS, "status": ["running"]}).encode(), "contradict"),
        (
            "json",
            json.dumps({name: FIELDS[name] for name in list(FIELDS)[1:4]} | {"checkpoint_id": "checkpoint"}).encode(),
            "missing",
        ),
        ("pickle", PLAIN, "'pickle' is unknown"),
        ("", PLAIN, "unknown"),
    ],
)
def test_a_hostile_payload_is_a_decode_error(encoding: str, body: bytes, message: str) -> None:
    """Even under a checksum that fits. The message shows nothing of it."""
    with pytest.raises(CheckpointDecodeError, match=message) as caught:
        decode(encoding, sealed(body))
    # Whoever logs the chain of an error must not find the payload in it.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", "[" * 100_000, '{"context": 1}', '{"unknown": 1}'])
def test_hostile_guide_json_is_a_decode_error(text: str) -> None:
    """As with the product's own encodings."""
    with pytest.raises(CheckpointDecodeError, match="damaged") as caught:
        decode(GUIDE_JSON, text.encode())
    assert caught.value.__context__ is None


def test_guide_json_of_a_newer_version_is_refused() -> None:
    """As the product's own is."""
    with pytest.raises(CheckpointDecodeError, match="upgrade workflows-mcp"):
        decode(GUIDE_JSON, b'{"schema_version": 2}')


def test_what_follows_a_frame_is_damage() -> None:
    """It would otherwise be read as though it were not there."""
    frame = zstd.compress(encode_state(make_state()))
    assert_same(decode(ZSTD, sealed(frame)), decode(ZSTD, sealed(frame)))
    for more in (frame, b"x"):
        with pytest.raises(CheckpointDecodeError, match="something follows"):
            decode(ZSTD, sealed(frame + more))


def test_a_state_of_many_steps_of_unpacking_comes_back_exactly() -> None:
    """It is unpacked piece by piece."""
    state = make_state(context={"text": "a" * (40 * 2**20)})
    payload = encode(state)
    assert payload.encoding == ZSTD
    assert_same(decode(payload.encoding, payload.data), state)


@pytest.mark.parametrize("data", ["{}", 5, 2**62, 0.5, None])
@pytest.mark.parametrize("encoding", [JSON, ZSTD, GUIDE_JSON])
def test_a_payload_that_is_no_bytes_is_damaged(encoding: str, data: Any) -> None:
    """SQLite holds any type in any column."""
    with pytest.raises(CheckpointDecodeError, match="it is not bytes"):
        decode(encoding, data)


def test_a_delta_in_the_middle_of_a_chain_is_unpacked_without_its_checksum_and_a_wrong_base_still_found() -> None:
    """The checksum of the last one tells of a wrong base, wherever in the chain it is."""
    first, second, third = (random.Random(1).randbytes(4000).hex().encode() + end for end in (b"1", b"12", b"123"))
    wrong = b"0" + first[1:]
    deltas = [(ZSTD_DELTA, pack_delta(plain, base) or b"") for plain, base in ((second, first), (third, second))]
    link = unpack(deltas[0], "link", first, is_link=True)
    assert link == second
    assert unpack(deltas[1], "last", link) == third
    misled = unpack(deltas[0], "link", wrong, is_link=True)
    assert misled != second
    with pytest.raises(CheckpointDecodeError, match="'last' is damaged"):
        unpack(deltas[1], "last", misled)
