"""Sealed checkpoints: hidden, bound to their place, and readable beside plain ones."""

import asyncio
import dataclasses
import json
import threading
from collections.abc import Collection, Sequence
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.conftest import OpenStore
from tests.faults.test_secrets import raw_bytes_of
from tests.migrations import raw
from tests.persistence.examined import examined, problems
from tests.persistence.test_codec import TEXT, VALUES
from workflows_mcp import (
    CheckpointDecodeError,
    CheckpointKeyError,
    CheckpointNotFoundError,
    CheckpointState,
    CheckpointStoreError,
    InMemoryCheckpointStore,
    StoreConfigurationError,
    WorkflowExecutor,
    rekey_checkpoints,
    upgrade_schema,
)
from workflows_mcp.engine.contract import columns_of
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.engine.stored import StoredCheckpoint
from workflows_mcp.persistence import rekeying, sealing
from workflows_mcp.persistence.deltas import Plains
from workflows_mcp.persistence.health import Verdict
from workflows_mcp.persistence.keys import new_key
from workflows_mcp.persistence.revisions import HEAD
from workflows_mcp.persistence.row_codec import REFUSED_PROMPT, SEALED_PROMPT, open_codec
from workflows_mcp.persistence.schema import SchemaManager
from workflows_mcp.settings import Settings
from workflows_mcp.testing import assert_same, make_state

KEY, OLD = new_key("k2"), new_key("k1")
BOTH = f"{KEY.entry},{OLD.entry}"
KEY_S_ENCODING = f"aes-256-gcm:k2:{KEY.fingerprint}:zstd"
CANARY = "a secret that is nobody's business"


def asking(checkpoint_id: str = "c", **fields: object) -> CheckpointState:
    """A state that waits, with something to hide in the state and in the prompt."""
    return make_state(
        checkpoint_id,
        run_id="run",
        context={"text": f"{CANARY} " * 100},
        paused_block_id="b",
        pause_prompt=f"Shall {CANARY} be told?\0",
        created_at=1.0,
        **fields,
    )


@pytest.mark.parametrize("database", ["sqlite"])
async def test_what_is_sealed_comes_back_and_its_prompt_is_shown(open_store: OpenStore, database_url: str) -> None:
    """By loading, claiming, listing and iterating; the encoding tells the key."""
    store = open_store(encryption_keys=KEY.entry)
    state = asking()
    await store.save_checkpoint(state)
    [listed] = await store.list_checkpoints()
    assert listed.encoding == KEY_S_ENCODING
    assert listed.pause_prompt == f"Shall {CANARY} be told?\ufffd"
    assert_same(await store.load_checkpoint("c"), state)
    assert_same(await store.claim_checkpoint("c", "me"), state)
    assert [one async for one in store.iter_checkpoints()] == [state]
    [[prompt, size, stored]] = await raw.fetch(
        database_url, "SELECT pause_prompt, length(payload), stored_bytes FROM checkpoints"
    )
    assert prompt.startswith("sealed:")
    assert size == stored == listed.stored_bytes


async def test_a_sealed_database_goes_back_to_the_guides_table_when_it_is_opened(
    open_store: OpenStore, database_url: str
) -> None:
    """Before that nothing is changed, and nobody is told to delete what is whole."""
    settings = Settings(encryption_keys=SecretStr(KEY.entry))
    manager = SchemaManager(database_url, settings=settings)
    store = open_store(encryption_keys=KEY.entry)
    await store.save_checkpoint(asking())
    with pytest.raises(CheckpointStoreError, match=r"'c' is sealed, .* take the seals off first") as error:
        await manager.downgrade("0001")
    assert not isinstance(error.value, CheckpointDecodeError)
    assert await manager.current() == HEAD
    assert_same(await store.load_checkpoint("c"), asking())
    opening = open_store(encryption_keys=KEY.entry, encryption="off")
    assert (await rekey_checkpoints(opening, decrypt=True)).changed == 1
    await manager.downgrade("0001")
    [[data]] = await raw.fetch(database_url, "SELECT checkpoint_data FROM checkpoints")
    assert CANARY in data


async def test_nothing_of_a_state_or_a_prompt_is_found_in_a_database(open_store: OpenStore, database_url: str) -> None:
    """In the file, beside it or in a dump; without a key both would be there."""
    secret = "canary-4711"
    for settings, is_hidden in (({}, False), ({"encryption_keys": KEY.entry}, True)):
        store = open_store(**settings)
        await store.save_checkpoint(make_state(context={"a": secret}, paused_block_id="b", pause_prompt=secret))
        data = raw_bytes_of(database_url)
        if not is_hidden:
            assert secret.encode() in data
            await raw.execute(database_url, "DELETE FROM checkpoints")
            await store.vacuum()
            await store.close()
        else:
            assert secret.encode() not in data
            assert secret.encode().hex().encode() not in data


@given(st.dictionaries(TEXT, VALUES, max_size=3), TEXT | st.none(), st.sampled_from([KEY.entry, BOTH]))
def test_any_state_comes_back_exactly(context: dict[str, object], prompt: str | None, keys: str) -> None:
    """Types and order of keys included, whatever the prompt."""
    codec = open_codec(Settings(encryption_keys=keys))  # type: ignore[arg-type] # pydantic makes it a SecretStr
    state = make_state(context=context, paused_block_id=None if prompt is None else "b", pause_prompt=prompt)
    columns = {**columns_of(state), "status": str(state.status)}
    filled = codec.filled(columns, encode_state(state))
    assert_same(codec.state([filled[one.name] for one in codec.loading.columns]), state)


CHANGES = {
    "workflow_name": "'other'",
    "created_at": "created_at + 1",
    "run_id": "NULL",
    "status": "'completed'",
    "parent_checkpoint_id": "'other'",
    "current_wave_index": "current_wave_index + 1",
    "schema_version": "schema_version + 1",
    "pause_prompt": "'Shall I delete it all?'",
}


async def test_a_changed_column_is_named(open_store: OpenStore, database_url: str) -> None:
    """When the checkpoint is loaded or claimed; other checkpoints are unaffected."""
    store = open_store(encryption_keys=KEY.entry)
    await store.save_checkpoint(asking("other"))
    for column, value in CHANGES.items():
        await store.save_checkpoint(asking("changed"))
        await raw.execute(database_url, f"UPDATE checkpoints SET {column} = {value} WHERE checkpoint_id = 'changed'")
        for call in (store.load_checkpoint("changed"), store.claim_checkpoint("changed", "me")):
            with pytest.raises(CheckpointDecodeError, match=f"'changed' is damaged: its column {column} ") as caught:
                await call
            assert CANARY not in str(caught.value)
    assert_same(await store.load_checkpoint("other"), asking("other"))


async def test_what_is_sealed_opens_nowhere_else(open_store: OpenStore, database_url: str) -> None:
    """Neither a payload nor a prompt in another row, or as another encoding; nor a part of it."""
    store = open_store(encryption_keys=BOTH)
    await store.save_checkpoint(asking("from"))
    for change in (
        "payload = (SELECT payload FROM checkpoints WHERE checkpoint_id = 'from')",
        "pause_prompt = (SELECT pause_prompt FROM checkpoints WHERE checkpoint_id = 'from')",
        "pause_prompt = 'sealed:AAAA'",
        "pause_prompt = 'sealed:ü'",
        "pause_prompt = NULL",
        f"encoding = 'aes-256-gcm:k2:{KEY.fingerprint}:json'",
        f"encoding = 'aes-256-gcm:k1:{OLD.fingerprint}:zstd'",
        f"encoding = 'aes-256-gcm:k2:{OLD.fingerprint}:zstd'",
        f"encoding = 'aes-256-gcm:k2:{KEY.fingerprint}:other'",
        "encoding = 'aes-256-gcm:k2:zstd'",
        "encoding = 'zstd'",
        "payload = substr(payload, 1, 60)",
        "payload = substr(payload, 1, 20)",
        "payload = substr(payload, 2)",
    ):
        await store.save_checkpoint(asking("to"))
        await raw.execute(database_url, f"UPDATE checkpoints SET {change} WHERE checkpoint_id = 'to'")
        with pytest.raises(CheckpointDecodeError, match="checkpoint 'to' ") as caught:
            await store.load_checkpoint("to")
        assert CANARY not in str(caught.value)
        [shown] = [one.pause_prompt for one in await store.list_checkpoints() if one.checkpoint_id == "to"]
        assert shown is None or CANARY not in shown or "payload" in change, "a listing shows another one's prompt"


async def test_a_key_that_is_missing_or_another_one_is_told(open_store: OpenStore) -> None:
    """By the checkpoint, the key's id and the setting. What needs no key goes on: listing, pinning, deleting."""
    await open_store(encryption_keys=OLD.entry).save_checkpoint(asking())
    others = {
        "is sealed with the key 'k1', which this process does not have: add it to WORKFLOWS_ENCRYPTION_KEYS": None,
        "'k1', which this process does not have": KEY.entry,
        "another key of the id 'k1' than the one in WORKFLOWS_ENCRYPTION_KEYS": new_key("k1").entry,
    }
    for problem, keys in others.items():
        store = open_store(encryption_keys=keys)
        for call in (store.load_checkpoint("c"), store.claim_checkpoint("c", "me")):
            with pytest.raises(CheckpointKeyError, match=f"checkpoint 'c' .*{problem}"):
                await call
        assert [one.pause_prompt for one in await store.list_checkpoints()] == [SEALED_PROMPT]
        damaged: list[object] = []
        assert [one async for one in store.iter_checkpoints(on_damaged=lambda *found: damaged.append(found))] == []  # noqa: B023 - called in this turn
        assert len(damaged) == 1
        assert await store.pin_checkpoint("c")
    assert (await open_store(encryption_keys=OLD.entry).claim_checkpoint("c", "me")).checkpoint_id == "c"
    assert await open_store().delete_checkpoint("c")


@pytest.mark.parametrize("database", ["sqlite"])
async def test_two_keys_of_one_id_are_told_apart(
    open_store: OpenStore, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """When two servers were each given a key of it, nothing that one has sealed counts as sealed with the other's."""
    one, other, new = new_key("2026"), new_key("2026"), new_key("2027")
    await open_store(encryption_keys=one.entry).save_checkpoint(asking("by one"))
    store = open_store(encryption_keys=other.entry)
    await store.save_checkpoint(asking("by the other"))
    named = f"another '2026' (fingerprint {one.fingerprint})"
    assert f"sealed with {named}, which is not in WORKFLOWS_ENCRYPTION_KEYS" in caplog.text
    assert await store.count_seals() == (0, {one.name: 1, other.name: 1})
    done = await store.rekey()
    assert (done.changed, done.left, list(done.failures)) == (0, 0, ["by one"])
    assert f"add that of the fingerprint {one.fingerprint}, too" in done.failures["by one"]
    found = (await examined(database_url, encryption_keys=other.entry))["encryption"].found
    assert found.endswith(f"that this process does not have: 1 with {named}")
    everybodys = open_store(encryption_keys=f"{new.entry},{other.entry},{one.entry}")
    for name in ("by one", "by the other"):
        assert_same(await everybodys.load_checkpoint(name), asking(name))
    assert (await everybodys.rekey()).changed == 2
    assert await everybodys.count_seals() == (0, {new.name: 2})


async def test_without_keys_nothing_is_saved_in_plain_text_beside_what_is_sealed(open_store: OpenStore) -> None:
    """Unless that is asked for; whichever way a save travels. Nor is what is sealed replaced by plain text."""
    await open_store(encryption_keys=KEY.entry).save_checkpoint(asking("sealed"))
    store = open_store()
    states = [make_state(str(number)) for number in range(3)]
    for state in (*states, make_state("large", context={"a": "b" * 200_000})):
        with pytest.raises(StoreConfigurationError, match=r"sealed with the key 'k2'.*, and this process has no keys"):
            await store.save_checkpoint(state)
    for other in (store, open_store(), open_store(store._database.engine)):
        for state in (states[0], make_state("sealed")):
            with pytest.raises(StoreConfigurationError, match="and this process has no keys"):
                await other.write_stored([StoredCheckpoint(state)], on_conflict="replace")
    assert [one.encoding for one in await store.list_checkpoints()] == [KEY_S_ENCODING]
    allowed = open_store(encryption="off")
    await allowed.save_checkpoint(states[0])
    assert await store.load_checkpoint("0") == states[0]


async def test_without_keys_nothing_is_gone_on_with_beside_what_is_sealed(open_store: OpenStore) -> None:
    """Blocks would run, and what they did could not be saved: again at each look for abandoned runs."""
    plain = open_store()
    await plain.save_checkpoint(make_state("plain"), owner="crashed", lease_seconds=60)
    await plain.release_claim("plain", "crashed")
    await open_store(encryption_keys=KEY.entry).save_checkpoint(asking("sealed"))
    store = open_store()
    for some in (store, open_store(store._database.engine)):
        with pytest.raises(StoreConfigurationError, match="and this process has no keys"):
            await some.claim_checkpoint("plain", "me")
        with pytest.raises(CheckpointKeyError, match="'sealed' is sealed with the key 'k2'"):
            await some.claim_checkpoint("sealed", "me")
        with pytest.raises(CheckpointNotFoundError):
            await some.claim_checkpoint("absent", "me")
    executor = WorkflowExecutor(store)
    assert await executor.recover() == []
    assert [one.checkpoint_id for one in await plain.list_abandoned()] == ["plain"], "somebody with keys may go on"
    assert (await open_store(encryption="off").claim_checkpoint("plain", "me")).checkpoint_id == "plain"


async def test_an_engine_of_the_callers_seals_and_refuses_likewise(open_store: OpenStore, database_url: str) -> None:
    """It has no connections of the store's own, and no way round what they look at."""
    engine = open_store()._database.engine
    await open_store(engine, encryption_keys=KEY.entry).save_checkpoint(asking())
    with pytest.raises(StoreConfigurationError, match="in plain text"):
        await open_store(engine).save_checkpoint(make_state("plain"))
    assert await raw.fetch(database_url, "SELECT encoding FROM checkpoints") == [(KEY_S_ENCODING,)]


@pytest.mark.parametrize("database", ["sqlite"])
async def test_where_sealing_is_required_a_plain_row_is_not_believed(
    open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody who can write to the database can make one; those that are older than the keys are sealed by rekeying."""
    await open_store().save_checkpoint(asking())
    store = open_store(encryption_keys=KEY.entry, encryption="required")
    with pytest.raises(CheckpointDecodeError, match=r"'c' is not sealed, .*'required'; .*checkpoints rekey"):
        await store.load_checkpoint("c")
    assert [one.pause_prompt for one in await store.list_checkpoints()] == [REFUSED_PROMPT]
    assert list((await store.rekey()).failures) == ["c"], "a stranger's row would be believed from then on"
    assert (await open_store(encryption_keys=KEY.entry).rekey()).changed == 1
    assert_same(await store.load_checkpoint("c"), asking())
    assert "sealed" not in caplog.text
    await open_store(encryption_keys=OLD.entry).list_checkpoints()
    assert "sealed with 'k2', which is not in WORKFLOWS_ENCRYPTION_KEYS" in caplog.text


GUIDES = {
    "checkpoint_id": "?", "workflow_name": "flow", "created_at": 5.0, "runtime_inputs": {}, "context": {},
    "completed_blocks": [], "current_wave_index": 0, "execution_waves": [], "block_definitions": {},
    "workflow_stack": [], "parent_checkpoint_id": None, "paused_block_id": "b", "pause_prompt": "Go on?",
    "pause_metadata": None, "child_checkpoint_id": None, "schema_version": 1,
}  # fmt: skip


async def test_a_mixed_database_is_readable_and_rekeying_leaves_one_key(
    open_store: OpenStore, empty_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Plain rows, the guide's, an older key's: all come back as they were, under the newest key, or plain again."""
    texts = {name: {**GUIDES, "checkpoint_id": name} for name in ("guide", "guide's NaN")}
    odd = texts["guide's NaN"]
    odd["context"] = {"a": float("nan"), "b": 2**70, "c": "\ud800"}
    for name in ("checkpoint_id", "workflow_name", "created_at"):
        del odd[name]  # the table's columns hold them, and can be changed
    await raw.make_guide_database(
        empty_url, [(name, "flow", 5.0, True, json.dumps(one)) for name, one in texts.items()]
    )
    await upgrade_schema(empty_url)
    await open_store(empty_url).save_checkpoint(asking("plain"))
    await open_store(empty_url, encryption_keys=OLD.entry).save_checkpoint(asking("old"))
    store = open_store(empty_url, encryption_keys=BOTH)
    await store.save_checkpoint(make_state("new", created_at=2.0))
    before = {one.checkpoint_id: one async for one in store.iter_checkpoints()}
    assert len(before) == 5
    prompts = {one.checkpoint_id: one.pause_prompt for one in await store.list_checkpoints()}
    assert (await store.count_seals()) == (3, {OLD.name: 1, KEY.name: 1})

    assert dataclasses.astuple(await store.rekey(batch=2)) == (5, 4, 0, 0, {})
    assert (await store.count_seals()) == (0, {KEY.name: 5})
    required = open_store(empty_url, encryption_keys=KEY.entry, encryption="required")  # the older one is gone
    for some in (store, required):
        assert repr({one.checkpoint_id: one async for one in some.iter_checkpoints()}) == repr(before)
        assert {one.checkpoint_id: one.pause_prompt for one in await some.list_checkpoints()} == prompts
    assert (await store.rekey()).changed == 0
    with pytest.raises(StoreConfigurationError, match="would still be sealed: set WORKFLOWS_ENCRYPTION to off"):
        await store.rekey(decrypt=True)

    off = open_store(empty_url, encryption_keys=KEY.entry, encryption="off")
    with pytest.raises(StoreConfigurationError, match="WORKFLOWS_ENCRYPTION is off"):
        await off.rekey()
    assert (await off.rekey(decrypt=True)).changed == 5
    assert await off.count_seals() == (5, {})
    plain = open_store(empty_url)
    assert repr({one.checkpoint_id: one async for one in plain.iter_checkpoints()}) == repr(before)
    assert {one.checkpoint_id: one.pause_prompt for one in await plain.list_checkpoints()} == prompts
    with pytest.raises(StoreConfigurationError, match="there are no keys: make one"):
        await rekey_checkpoints(plain)
    assert "sealed" not in caplog.text


async def test_what_cannot_be_opened_is_left_as_it_is_and_told(open_store: OpenStore, database_url: str) -> None:
    """Damaged, or under a key that is missing, or with a column that was changed; all others are rekeyed."""
    await open_store(encryption_keys=new_key("lost").entry).save_checkpoint(asking("lost"))
    for name in ("fine", "damaged", "changed"):
        await open_store(encryption_keys=OLD.entry).save_checkpoint(asking(name))
    await open_store(encryption="off").save_checkpoint(asking("plain, changed"))
    await raw.execute(
        database_url,
        "UPDATE checkpoints SET payload = substr(payload, 2) WHERE checkpoint_id = 'damaged'",
        "UPDATE checkpoints SET status = 'failed' WHERE checkpoint_id LIKE '%changed'",
    )
    columns = "checkpoint_id, encoding, payload, pause_prompt, status, stored_bytes"
    others = f"SELECT {columns} FROM checkpoints WHERE checkpoint_id <> 'fine' ORDER BY checkpoint_id"
    before = await raw.fetch(database_url, others)
    done = await open_store(encryption_keys=BOTH).rekey()
    assert (done.changed, done.left, done.failed) == (1, 0, 4)
    assert list(done.failures) == ["changed", "damaged", "lost", "plain, changed"]
    assert "'lost', which this process does not have" in done.failures["lost"]
    assert "its column status" in done.failures["plain, changed"]
    assert await raw.fetch(database_url, others) == before


async def test_a_save_while_it_is_rekeyed_is_not_overwritten(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By somebody who has the older key alone, just after the row was read: what was saved is sealed in its turn."""
    saver, store = open_store(encryption_keys=OLD.entry), open_store(encryption_keys=BOTH)
    for name in ("one", "two"):
        await saver.save_checkpoint(asking(name))
    newer = asking("one", current_wave_index=7)
    load_many = store._database.load_many
    was_read: list[object] = []

    async def read_and_save(checkpoint_ids: Collection[str], plains: Plains | None = None) -> Sequence[Sequence[Any]]:
        rows = await load_many(checkpoint_ids, plains)
        if not was_read:
            was_read.append(rows)
            await saver.save_checkpoint(newer)
        return rows

    monkeypatch.setattr(store._database, "load_many", read_and_save)
    done = await store.rekey()
    assert (done.changed, done.left) == (2, 0)
    assert await store.count_seals() == (0, {KEY.name: 2})
    assert_same(await store.load_checkpoint("one"), newer)


@pytest.mark.parametrize("database", ["postgresql"])
async def test_a_row_that_somebody_has_locked_is_met_again(
    open_store: OpenStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for a moment, and left when that does not help; all others are rekeyed."""
    for name in ("locked", "free"):
        await open_store(encryption_keys=OLD.entry).save_checkpoint(asking(name))
    store = open_store(encryption_keys=BOTH)
    waits: list[float] = []
    connection = await asyncpg.connect(database_url)
    lock = connection.transaction()
    sleep = asyncio.sleep

    async def wait(seconds: float) -> None:
        if seconds != rekeying._SECONDS_BETWEEN_WALKS:
            await sleep(seconds)
            return
        waits.append(seconds)
        if len(waits) == 5:
            await lock.rollback()

    monkeypatch.setattr(asyncio, "sleep", wait)
    try:
        await lock.start()
        await connection.execute("SELECT 1 FROM checkpoints WHERE checkpoint_id = 'locked' FOR UPDATE")
        done = await store.rekey()
        assert (done.changed, done.left, done.failed, len(waits)) == (1, 1, 0, 3)
        done = await store.rekey()
        assert (done.changed, done.left, done.failed, len(waits)) == (1, 0, 0, 5)
    finally:
        await connection.close()


async def test_rekeying_that_was_stopped_goes_on_where_it_was(open_store: OpenStore) -> None:
    """And leaves alone what is the database's own: leases and pins."""
    old, store = open_store(encryption_keys=OLD.entry), open_store(encryption_keys=BOTH)
    for number in range(7):
        await old.save_checkpoint(make_state(str(number), created_at=float(number)), owner="me", lease_seconds=60)
    await old.pin_checkpoint("1")
    before = [dataclasses.replace(one, encoding="", stored_bytes=0) for one in await store.list_checkpoints()]

    def stop(seen: int, total: int) -> None:
        assert total == 7
        if seen >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await store.rekey(batch=2, on_progress=stop)
    assert await store.count_seals() == (0, {OLD.name: 3, KEY.name: 4})
    assert (await store.rekey(batch=2)).changed == 3
    after = [dataclasses.replace(one, encoding="", stored_bytes=0) for one in await store.list_checkpoints()]
    assert after == before
    with pytest.raises(ValueError, match="batch must be at most 500"):
        await store.rekey(batch=501)
    with pytest.raises(ValueError, match="not those of a InMemoryCheckpointStore"):
        await rekey_checkpoints(InMemoryCheckpointStore())


def test_a_derived_key_is_renewed_before_its_nonces_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a salt of its own, each message a nonce of its own, and all of them open."""
    monkeypatch.setattr(sealing, "_MOST_USES", 3)
    sealer = sealing.Sealer(KEY)
    sealed = [sealer.seal(b"plain", b"there") for _ in range(9)]
    assert len({one[1:17] for one in sealed}) == 4
    assert len({one[17:29] for one in sealed}) == 9
    assert {sealing.Sealer(OLD).open(KEY, one, b"there") for one in sealed} == {b"plain"}
    assert sealing.Sealer(KEY).seal(b"", b"")[1:17] != sealer.seal(b"", b"")[1:17], "two stores share a salt"


@pytest.mark.parametrize("database", ["sqlite"])
async def test_large_states_are_sealed_in_a_thread(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they are compressed: the event loop waits for neither."""
    store = open_store(encryption_keys=KEY.entry)
    assert store._codec._seal is not None
    sealer = store._codec._seal._sealer
    seal, threads = sealer.seal, list[bool]()

    def noticed(*args: bytes) -> bytes:
        threads.append(threading.current_thread() is threading.main_thread())
        return seal(*args)

    monkeypatch.setattr(sealer, "seal", noticed)
    await store.save_checkpoint(make_state("small"))
    await store.save_checkpoint(make_state("large", context={"a": "b" * 200_000}))
    assert threads == [True, False]


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_sealed_run_pauses_resumes_and_tells_no_command_its_keys(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An executor knows nothing of keys; a command inherits none of them."""
    for name, value in {"KEYS": KEY.entry, "KEY_FILE": "f", "KEY_COMMAND": "c"}.items():
        monkeypatch.setenv(f"WORKFLOWS_ENCRYPTION_{name}", value)
    executor = WorkflowExecutor(
        open_store(encryption_keys=KEY.entry, encryption_key_file=None, encryption_key_command=None)
    )
    paused = await executor.execute_workflow(
        "name: sealed\nblocks:\n"
        '  - {id: ask, type: Prompt, inputs: {prompt: "Go on?"}}\n'
        '  - {id: show, type: Shell, depends_on: [ask], inputs: {command: "env | grep ENCRYPTION || echo none"}}\n'
        'outputs: {shown: "{{ blocks.show.outputs.stdout | trim }}"}\n'
    )
    assert paused.checkpoint_id is not None
    assert [one.prompt for one in await executor.list_runs()] == ["Go on?"]
    assert (await executor.resume_workflow(paused.checkpoint_id, "yes")).outputs == {"shown": "none"}


@pytest.mark.parametrize("database", ["sqlite"])
async def test_an_examination_tells_what_is_sealed_and_what_cannot_be_opened(
    open_store: OpenStore, database_url: str
) -> None:
    """In the order in which a database is sealed, rotated, and its keys are lost."""
    assert (await examined(database_url))["encryption"].found == "there are no keys, and nothing is sealed"
    await open_store().save_checkpoint(make_state("plain", created_at=1.0))
    await open_store(encryption_keys=OLD.entry).save_checkpoint(make_state("old", created_at=2.0))
    steps: list[tuple[dict[str, Any], Verdict, str]] = [
        ({"encryption_keys": OLD.entry}, Verdict.NOTICE, "1 of 2 are in plain text"),
        ({}, Verdict.PROBLEM, "of 2, some are sealed with keys that this process does not have: 1 with 'k1'"),
        ({"encryption_keys": KEY.entry}, Verdict.PROBLEM, "of 2, some are sealed with keys that"),
        ({"encryption_keys": OLD.entry, "encryption": "off"}, Verdict.NOTICE, "off: what is saved is plain; 1 of 2"),
    ]
    for settings, verdict, beginning in steps:
        check = (await examined(database_url, **settings))["encryption"]
        assert check.verdict is verdict
        assert check.found.startswith(beginning)
    await open_store(encryption_keys=OLD.entry).rekey()
    older = (await examined(database_url, encryption_keys=BOTH))["encryption"].found
    assert older == "all 2 are sealed, 2 of them with an older key than 'k2'"
    found = await examined(database_url, encryption_keys="k1:non sense")
    assert problems(found) == {"keys", "encryption", "payloads"}
    assert "is not base64" in found["keys"].found


@pytest.mark.parametrize("database", ["sqlite"])
async def test_an_examination_does_not_call_damaged_what_lacks_a_key_or_a_seal(
    open_store: OpenStore, database_url: str
) -> None:
    """Nobody is told to delete what a key would open."""
    store = open_store(encryption_keys=OLD.entry)
    for name in ("fine", "damaged"):
        await store.save_checkpoint(asking(name))
    await open_store(encryption="off").save_checkpoint(asking("plain"))
    await raw.execute(
        database_url, "UPDATE checkpoints SET payload = substr(payload, 2) WHERE checkpoint_id = 'damaged'"
    )
    without_a_seal = "cannot be loaded without a seal, which WORKFLOWS_ENCRYPTION requires"
    steps: list[tuple[dict[str, Any], str, str]] = [
        ({}, "2 cannot be opened with the keys of this process: 'fine', 'damaged'", "add the keys that they are"),
        ({"encryption_keys": OLD.entry}, "1 cannot be read: 'damaged'", "what is wrong with one: "),
        (
            {"encryption_keys": OLD.entry, "encryption": "required"},
            f"1 cannot be read: 'damaged'; 1 {without_a_seal}: 'plain'",
            "what is wrong with one: ",
        ),
    ]
    for settings, told, advised in steps:
        check = (await examined(database_url, **settings))["payloads"]
        assert check.found == f"of the newest 3, {told}"
        assert check.advice.startswith(advised)
        assert ("delete" in check.advice) is ("damaged" in told and "cannot be read" in told)
