"""Sealed states that are deltas of one another: hidden, bound to their place, and rekeyed."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable

import pytest

from tests.conftest import OpenStore
from tests.faults.test_secrets import raw_bytes_of
from tests.migrations import raw
from tests.persistence.chained import SECRET, bases_of, broken_of, needs, run_of, said, save_run
from tests.persistence.test_writer import locked
from workflows_mcp import (
    CheckpointDecodeError,
    CheckpointKeyError,
    CheckpointState,
    CheckpointStore,
    InMemoryCheckpointStore,
    copy_checkpoints,
)
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.persistence import rekeying, retention, retention_statements
from workflows_mcp.persistence.chains import Chains
from workflows_mcp.persistence.codec import JSON, payload_of
from workflows_mcp.persistence.keys import new_key
from workflows_mcp.persistence.retention_statements import remove_newest_of_run
from workflows_mcp.persistence.rewriting import _GIVEN, Rewriting
from workflows_mcp.persistence.statements import Query
from workflows_mcp.testing import assert_same

KEY, OLD = new_key("k2"), new_key("k1")
BOTH = f"{KEY.entry},{OLD.entry}"


async def require_all(store: CheckpointStore, states: list[CheckpointState]) -> None:
    """All load equal, one by one and by a walk."""
    for state in states:
        assert_same(await store.load_checkpoint(state.checkpoint_id), state)
    assert [one async for one in store.iter_checkpoints()] == states[::-1]


def unkeyed(state: CheckpointState) -> str:
    """The digest that is stored of a state that is not sealed."""
    return urlsafe_b64encode(hashlib.sha256(encode_state(state)).digest()[:12]).decode()


async def test_rekeying_reaches_through_a_chain_that_began_in_plain_text(
    open_store: OpenStore, database_url: str
) -> None:
    """Whatever key a link has, deltas stay deltas. No digest is left by which one could try out what a state is."""
    states = run_of(30)
    await save_run(open_store(), states[:10])
    older = open_store(encryption_keys=OLD.entry)
    assert_same(await older.claim_checkpoint("run-009", "me"), states[9])
    await save_run(older, states[10:20])
    newer = open_store(encryption_keys=BOTH)
    await newer.claim_checkpoint("run-019", "other")
    await save_run(newer, states[20:])
    bases = await bases_of(database_url)
    assert len(bases) == 29, "the chain was to have links of two keys, and plain ones"
    assert len({encoding for (encoding,) in await raw.fetch(database_url, "SELECT encoding FROM checkpoints")}) == 4
    await require_all(newer, states)
    assert unkeyed(states[3]).encode() in raw_bytes_of(database_url)
    for batch in (3, 100):
        done = await newer.rekey(batch=batch)
        assert (done.left, done.failed) == (0, 0), done.failures
    assert await newer.count_seals() == (0, {KEY.name: 30})
    assert await bases_of(database_url) == bases
    digests = await raw.fetch(database_url, "SELECT state_digest, base_digest FROM checkpoints")
    assert not {unkeyed(state) for state in states} & {one for row in digests for one in row}
    alone = open_store(encryption_keys=KEY.entry, encryption="required")
    await require_all(alone, states)
    # What a live store had in memory is not the state that the database knows by its digest any more.
    await save_run(newer, [*run_of(33)[30:]])
    await require_all(alone, run_of(33))
    opening = open_store(encryption_keys=KEY.entry, encryption="off")
    assert (await opening.rekey(decrypt=True, batch=7)).changed == 33
    await require_all(open_store(), run_of(33))
    assert bases.items() <= (await bases_of(database_url)).items()


async def test_nothing_of_a_sealed_chain_is_in_the_database(open_store: OpenStore, database_url: str) -> None:
    """Neither of a state nor of a change to it, nor a digest that anybody could make."""
    states = run_of(5)
    for settings, is_hidden in (({}, False), ({"encryption_keys": KEY.entry}, True)):
        store = open_store(**settings)
        await save_run(store, states)
        assert len(await bases_of(database_url)) == 4
        data = raw_bytes_of(database_url)
        assert (unkeyed(states[4]).encode() not in data) is is_hidden
        new = said("run", 4).encode()
        assert (new not in data and new.hex().encode() not in data) is is_hidden
        if not is_hidden:
            assert await store.delete_run("run") == 5
            await store.vacuum()
            await store.close()


@pytest.mark.parametrize("database", ["sqlite"])
async def test_what_is_changed_in_a_sealed_chain_is_noticed(open_store: OpenStore, database_url: str) -> None:
    """By exactly the states that need it: payloads, digests and bases that were exchanged by whoever may write."""
    store = open_store(encryption_keys=KEY.entry, delta_cache_mb=1)
    states = run_of(12)
    await save_run(store, states)
    await raw.execute(database_url, *without_foreign_keys(database_url))
    bases = await bases_of(database_url)
    before = await raw.fetch(database_url, "SELECT * FROM checkpoints ORDER BY checkpoint_id")
    other = "(SELECT {0} FROM checkpoints WHERE checkpoint_id = 'run-004')"
    for column, value in {
        "payload": other.format("payload"),
        "state_digest": other.format("state_digest"),
        "base_digest": other.format("base_digest"),
        "base_checkpoint_id": "'run-002'",
        "encoding": f"'aes-256-gcm:k2:{KEY.fingerprint}:zstd'",
        "base_checkpoint_id = NULL, base_digest": "NULL",
    }.items():
        await raw.execute(
            database_url,
            "CREATE TABLE kept AS SELECT * FROM checkpoints WHERE checkpoint_id = 'run-006'",
            f"UPDATE checkpoints SET {column} = {value} WHERE checkpoint_id = 'run-006'",
        )
        broken = await broken_of(open_store(encryption_keys=KEY.entry), states)
        assert broken.keys() == needs(bases, "run-006"), column
        for name, error in broken.items():
            assert type(error) is CheckpointDecodeError
            assert SECRET not in str(error)
            assert (error.link or name) in {"run-006", "run-005", "run-002"}, (column, name, error)
        await raw.execute(
            database_url,
            "DELETE FROM checkpoints WHERE checkpoint_id = 'run-006'",
            "INSERT INTO checkpoints SELECT * FROM kept",
            "DROP TABLE kept",
        )
    assert await raw.fetch(database_url, "SELECT * FROM checkpoints ORDER BY checkpoint_id") == before


def without_foreign_keys(url: str) -> list[str]:
    """What lets a database take what it would refuse; a SQLite file takes it from whoever does not ask."""
    name = "fk_checkpoints_base_checkpoint_id_base_digest_checkpoints"
    return [f"ALTER TABLE checkpoints DROP CONSTRAINT {name}"] if raw.is_postgres(url) else []


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_link_without_its_key_is_named_and_nothing_that_needs_it_is_harmed(
    open_store: OpenStore,
) -> None:
    """By loading and rekeying; and a deletion that cannot store whole what stays deletes none of what that needs."""
    states = run_of(12)
    first = open_store(encryption_keys=OLD.entry)
    await save_run(first, states[:6])
    second = open_store(encryption_keys=BOTH)
    await second.claim_checkpoint("run-005", "me")
    await save_run(second, states[6:])
    alone = open_store(encryption_keys=KEY.entry)
    told = "'run-011' is stored as a delta, .* 'run-000' is sealed with the key 'k1', which this process does not have"
    with pytest.raises(CheckpointKeyError, match=told) as caught:
        await alone.load_checkpoint("run-011")
    assert caught.value.link == "run-000"
    done = await alone.rekey()
    assert (done.changed, done.failed) == (0, 6)
    assert all("is sealed with the key 'k1'" in why for why in done.failures.values())
    for store, key in ((alone, "k1"), (open_store(), "k[12]")):
        with pytest.raises(
            CheckpointKeyError,
            match=rf"'run-006' .*to be deleted or replaced, and cannot .* the key '{key}', .* add it to",
        ):
            await store.delete_checkpoint("run-005")
    # A run goes as a whole, and of what is old all that nothing needs that stays.
    keyless = open_store()
    assert await second.delete_checkpoint("run-002")
    encodings = {one.checkpoint_id: one.encoding for one in await second.list_checkpoints()}
    assert encodings["run-003"] == f"aes-256-gcm:k1:{OLD.fingerprint}:zstd", (
        "it keeps its key, by which its digest is made"
    )
    assert await keyless.delete_run("run") == 11
    await save_run(second, states)
    with pytest.raises(
        CheckpointKeyError, match=r"all else was deleted, but 2 checkpoints were left: .*'run-009' .*'k2'"
    ):
        await keyless.trim_per_workflow(3)
    await require_all(second, [states[number] for number in (0, 8, 9, 10, 11)])
    assert await second.trim_per_workflow(3) == 2
    await require_all(second, states[9:])


@pytest.mark.parametrize("database", ["sqlite"])
async def test_required_takes_no_plain_link_and_off_opens_sealed_ones(open_store: OpenStore, database_url: str) -> None:
    """With what is required a delta of something plain is not believed, as that might be anybody's."""
    states = run_of(6)
    await save_run(open_store(), states[:3])
    sealing = open_store(encryption_keys=KEY.entry)
    await sealing.claim_checkpoint("run-002", "me")
    await save_run(sealing, states[3:])
    required = open_store(encryption_keys=KEY.entry, encryption="required")
    with pytest.raises(CheckpointKeyError, match=r"'run-005' is stored as a delta.* 'run-00.' is not sealed") as caught:
        await required.load_checkpoint("run-005")
    assert caught.value.link in {"run-000", "run-001", "run-002"}
    off = open_store(encryption_keys=KEY.entry, encryption="off")
    assert_same(await off.claim_checkpoint("run-005", "other"), states[5])
    more = run_of(8)
    await save_run(off, more[6:])
    await require_all(off, more)
    # What stays is stored whole as it was: sealed or plain, with its own key.
    assert await required.delete_checkpoint("run-002")
    encodings = dict(await raw.fetch(database_url, "SELECT checkpoint_id, encoding FROM checkpoints"))
    assert encodings["run-003"] == f"aes-256-gcm:k2:{KEY.fingerprint}:zstd"
    assert encodings["run-007"] == "zstd-delta"
    assert_same(await required.load_checkpoint("run-005"), states[5])
    await require_all(off, [one for one in more if one.checkpoint_id != "run-002"])


@pytest.mark.parametrize("database", ["sqlite"])
async def test_what_was_refused_is_not_believed_when_it_goes(open_store: OpenStore, database_url: str) -> None:
    """Somebody without the key puts a plain state in a base's place, and leaves its digest: that is no HMAC of it."""
    states = run_of(4)
    required = open_store(encryption_keys=KEY.entry, encryption="required", delta_cache_mb=1)
    await save_run(required, states)
    plain = encode_state(states[0])
    forged = plain.replace(b'"run-000"', b'"run-00X"')  # no delta takes it over, so that all checksums fit
    forging = (
        f"UPDATE checkpoints SET encoding = 'json', payload = x'{payload_of((JSON, forged)).hex()}' "
        "WHERE checkpoint_id = 'run-000'"
    )
    await raw.execute(database_url, forging)
    reopened = open_store(encryption_keys=KEY.entry, encryption="required")
    with pytest.raises(CheckpointDecodeError, match=r"3 checkpoints need it.* it holds another state than the one"):
        await reopened.delete_checkpoint("run-000")
    with pytest.raises(CheckpointKeyError, match=r"'run-001' .*'run-000' is not sealed"):
        await reopened.load_checkpoint("run-001")
    await reopened.save_checkpoint(states[0])
    await require_all(reopened, states)
    await raw.execute(database_url, forging)
    reopened = open_store(encryption_keys=KEY.entry, encryption="required")  # the last one has the true state in memory
    await reopened.save_checkpoint(run_of(1, text_bytes=9_000)[0])
    for name in ("run-001", "run-003"):
        with pytest.raises(CheckpointDecodeError, match="the checkpoint that it is a delta of is missing"):
            await reopened.load_checkpoint(name)


async def test_a_run_goes_as_a_whole_without_any_key(
    open_store: OpenStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that was imported and gone on with: then others are deltas of its heads, and nothing is stored whole."""
    states = run_of(12)
    memory = InMemoryCheckpointStore()
    for number, state in enumerate(states):
        await memory.save_checkpoint(state, follows=states[number - 1].checkpoint_id if number else None)
    monkeypatch.setattr(retention, "_DELETE_BYTES", 1)  # batches of a row each
    monkeypatch.setattr(Chains, "make_whole", None)
    for settings, goes_on in (({}, True), ({"encryption_keys": KEY.entry}, True), ({}, False)):
        store = open_store(encryption_keys=KEY.entry)
        await copy_checkpoints(memory, store)
        if goes_on:
            await store.claim_checkpoint("run-011", "me")
            for number, state in enumerate(run_of(14)[12:], start=12):
                await store.save_checkpoint(state, follows=f"run-{number - 1:03}", owner="me", lease_seconds=60)
        assert len(await bases_of(database_url)) == (13 if goes_on else 11)
        deleting = open_store(**settings)
        monkeypatch.setattr(type(deleting._database.dialect), "seconds_between_deletions", 0.0)
        if goes_on:
            assert await deleting.delete_run("run") == 14
    # Whoever stops it half way leaves nothing that somebody would take up.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention_statements, "remove_newest_of_run", stopping(remove_newest_of_run))
        with pytest.raises(ZeroDivisionError):
            await deleting.delete_run("run")
    await require_all(store, states)
    assert await store.list_checkpoints(heads_only=True) == []
    assert await deleting.delete_run("run") == 12


def stopping(make: Callable[..., Query]) -> Callable[..., Query]:
    """The same, for heads alone."""
    return lambda run_id, which, last: make(run_id, which, last) if which == "heads" else 1 // 0  # type: ignore[return-value]


@pytest.mark.parametrize("database", ["postgresql"])
async def test_rekeying_leaves_what_is_locked_and_changes_all_else(
    open_store: OpenStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is the base or a delta, and in whichever way; what was left is found again."""
    states = run_of(4)
    await save_run(open_store(encryption_keys=OLD.entry), states)
    bases = await bases_of(database_url)
    assert bases["run-002"] == "run-001"
    store = open_store(encryption_keys=BOTH)
    monkeypatch.setattr(rekeying, "_MOST_WALKS", 1)
    for lock, changed, left in (
        ("run-002' FOR UPDATE", 2, 2),
        ("run-001' FOR KEY SHARE", 1, 1),
        ("' FOR UPDATE", 1, 0),
    ):
        async with locked(database_url, f"SELECT 1 FROM checkpoints WHERE checkpoint_id = '{lock}"):
            done = await store.rekey()
        assert (done.changed, done.left, done.failed) == (changed, left, 0), lock
    await require_all(open_store(encryption_keys=KEY.entry), states)
    assert await bases_of(database_url) == bases


def test_the_statements_that_change_rows_are_few(open_store: OpenStore) -> None:
    """Each is kept compiled. However many changes there are, they take no more than twice the room."""
    rewriting = Rewriting(open_store()._database.dialect, 50)
    counts = (1, 2, 11, *range(51, 401, 23))
    queries = {count: rewriting.query([dict.fromkeys(_GIVEN)] * count) for count in counts}
    assert len({query.statement for query in queries.values()}) == 6
    assert all(len(queries[count].values) < 2 * count * len(_GIVEN) for count in counts[3:])
