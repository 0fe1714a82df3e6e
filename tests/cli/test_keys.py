"""`keys new`, `keys list` and `checkpoints rekey`, as people type them."""

import asyncio
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from tests.cli.conftest import CLI
from workflows_mcp import SQLAlchemyCheckpointStore, WorkflowResult
from workflows_mcp.persistence.keys import new_key
from workflows_mcp.testing import make_state


def test_a_database_is_sealed_rotated_and_opened_again(cli: CLI, waiting: WorkflowResult) -> None:
    """The whole way of the guide to it: a key, a rekey, a new key before the old one, a rekey, and back."""
    made = cli("keys", "new", "--id", "first")
    assert re.fullmatch(r"first:[A-Za-z0-9+/]{43}=\n", made.out)
    assert "fingerprint" in made.err
    assert made.out[6:50] not in made.err
    first = made.out.strip()
    second = cli("keys", "new", "--json").json()["entry"]
    base = ("--database-url", "runs.db")

    def rekey(keys: str) -> str:
        done = cli("checkpoints", "rekey", *base, env={"WORKFLOWS_ENCRYPTION_KEYS": keys})
        assert done.code == 0, done.err
        return done.out

    plain = cli("keys", "list", *base, env={"WORKFLOWS_ENCRYPTION_KEYS": first})
    assert "3 checkpoints are in plain text; seal them with: workflows-mcp checkpoints rekey" in plain.out
    assert rekey(first).startswith("3 of 3 checkpoints were sealed anew\n")
    assert rekey(f"{second},{first}").startswith("3 of 3 checkpoints were sealed anew\n")
    assert rekey(f"{second},{first}").startswith("0 of 3 checkpoints were sealed anew\n")
    listed = cli("keys", "list", "--json", *base, env={"WORKFLOWS_ENCRYPTION_KEYS": f"{second},{first}"})
    assert [(one["use"], one["checkpoints"]) for one in listed.json()["keys"]] == [("seals and opens", 3), ("opens", 0)]
    assert listed.json()["plain"] == 0
    answer = ("resume", str(waiting.checkpoint_id), "--response", "yes", "--json", *base)
    assert cli(*answer, env={"WORKFLOWS_ENCRYPTION_KEYS": second}).json()["status"] == "success"
    for one in (plain, listed):
        assert not [key for key in (first, second) if key.partition(":")[2] in one.out + one.err]


def test_a_missing_key_is_told_by_its_id_everywhere(cli: CLI, waiting: WorkflowResult) -> None:
    """A listing shows the rest; what cannot be opened is one line; nothing is run or saved in plain text."""
    base = ("--database-url", "runs.db")
    cli("checkpoints", "rekey", *base, env={"WORKFLOWS_ENCRYPTION_KEYS": new_key("lost").entry})
    shown = cli("runs", "list", *base)
    assert shown.code == 0
    assert "(sealed, and not to be opened with the keys of this process)" in shown.out
    for words in (("resume", waiting.checkpoint_id, "--response", "y"), ("checkpoints", "show", waiting.checkpoint_id)):
        failed = cli(*map(str, words), *base)
        assert failed.code == 1
        assert "is sealed with the key 'lost', which this process does not have" in failed.err
    listed = cli("keys", "list", *base)
    assert listed.code == 1
    assert re.search(r"^lost +missing +[0-9a-f]{16} +3$", listed.out, re.MULTILINE)
    assert "there are no keys: make one with" in cli("checkpoints", "rekey", *base).error()
    other = cli("checkpoints", "rekey", "--json", *base, env={"WORKFLOWS_ENCRYPTION_KEYS": new_key("other").entry})
    assert other.code == 1
    assert (other.json()["changed"], other.json()["failed"]) == (0, 3)


def test_another_key_of_the_same_id_is_missing_too(cli: CLI, waiting: WorkflowResult) -> None:
    """It is not taken for the one that is there: nobody is told that what seals everything is not needed any more."""
    base = ("--database-url", "runs.db")
    theirs, ours = new_key("2026"), new_key("2026")
    assert cli("checkpoints", "rekey", *base, env={"WORKFLOWS_ENCRYPTION_KEYS": theirs.entry}).code == 0
    done = cli("checkpoints", "rekey", *base, env={"WORKFLOWS_ENCRYPTION_KEYS": ours.entry})
    assert (done.code, done.out) == (1, "0 of 3 checkpoints were sealed anew\n")
    assert f"left as it is: '{waiting.checkpoint_id}': " in done.err
    listed = cli("keys", "list", "--json", *base, env={"WORKFLOWS_ENCRYPTION_KEYS": ours.entry})
    assert listed.code == 1
    assert [tuple(one.values()) for one in listed.json()["keys"]] == [
        ("2026", "seals and opens", ours.fingerprint, 0),
        ("2026", "missing", theirs.fingerprint, 3),
    ]


def test_ctrl_c_ends_rekeying_in_one_line_and_it_goes_on_later(tmp_path: Path, sqlite_template: Path) -> None:
    """What is done stays done; where there is no terminal, lines tell how far it has come."""
    path = tmp_path / "runs.db"
    path.write_bytes(sqlite_template.read_bytes())

    async def fill() -> None:
        async with SQLAlchemyCheckpointStore(path) as store:
            await asyncio.gather(*(store.save_checkpoint(make_state(str(one))) for one in range(400)))

    asyncio.run(fill())
    environment = {"WORKFLOWS_ENCRYPTION_KEYS": new_key("new").entry, "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "workflows_mcp", "checkpoints", "rekey", "--batch", "2"]
    sealed = "SELECT count(*) FROM checkpoints WHERE encoding LIKE 'aes-256-gcm:new:%'"
    with (
        closing(sqlite3.connect(path)) as file,
        subprocess.Popen(
            [*command, "--database-url", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        ) as rekeying,
    ):
        while file.execute(sealed).fetchone()[0] < 2 and rekeying.poll() is None:
            time.sleep(0.01)
        rekeying.send_signal(signal.SIGINT)
        out, err = rekeying.communicate(timeout=20)
        done = file.execute(sealed).fetchone()[0]
    assert rekeying.returncode == 130
    assert out == ""
    assert err.startswith("interrupted; what is done stays done; go on with: workflows-mcp checkpoints rekey ")
    assert len(err.splitlines()) == 1
    assert 2 <= done < 400
