"""Where keys come from, and that none of them is ever shown."""

import itertools
import logging
import os
import shlex
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pytest

from workflows_mcp import SQLAlchemyCheckpointStore, StoreConfigurationError
from workflows_mcp.persistence.keys import KeyRing, load_keys, new_key
from workflows_mcp.settings import Settings, load_settings

NEW, OLD = new_key("new"), new_key("old")
CANARY = "Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5"


def keys_of(**settings: Any) -> KeyRing | None:
    """The keys of some settings."""
    return load_keys(load_settings(**settings))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A file with two keys, which only its owner may read."""
    path = tmp_path / "keys"
    path.write_text(f"# the newest first\n{NEW.entry}  # since May\n\n  {OLD.entry}\n")
    path.chmod(0o600)
    return path


def test_keys_come_from_a_variable_a_file_or_a_command(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest first, in each of the three; none are set, and there are none."""
    assert keys_of() is None
    for name, value in {
        "KEYS": f"{NEW.entry}, {OLD.entry}",
        "KEY_FILE": str(key_file),
        "KEY_COMMAND": f"cat {shlex.quote(str(key_file))}",
    }.items():
        monkeypatch.setenv(f"WORKFLOWS_ENCRYPTION_{name}", value)
        keys = keys_of()
        assert keys is not None
        assert keys.keys == (NEW, OLD), name
        assert keys.source == f"WORKFLOWS_ENCRYPTION_{name}"
        monkeypatch.delenv(f"WORKFLOWS_ENCRYPTION_{name}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (CANARY, "entry 1 of WORKFLOWS_ENCRYPTION_KEYS is none"),
        (f"{CANARY}{CANARY}=:a", "entry 1 of WORKFLOWS_ENCRYPTION_KEYS is none"),
        (f"{NEW.entry},{CANARY}", "entry 2 of WORKFLOWS_ENCRYPTION_KEYS is none"),
        (f"k:{CANARY}!", "the key 'k' is not base64"),
        (f"k:{CANARY}ü", "the key 'k' is not base64"),
        (f"k:{CANARY}", "the key 'k' has 18 bytes"),
        ("k:" + "A" * 43 + "=", "the key 'k' is not random"),
        (f"{NEW.entry},{OLD.entry},{NEW.entry}", "the key 'new' twice"),
        (f"{NEW.entry},copy:{NEW.entry[4:]}", "one key under two ids, 'new' and 'copy'"),
        ("# nothing", "names no key"),
    ],
    ids=itertools.count(),  # keys are new in every process of the tests
)
def test_what_is_no_key_is_named_by_its_id_or_its_place(text: str, problem: str) -> None:
    """And never shown: neither in the message, nor in a traceback, nor in the error's context."""
    settings = load_settings(encryption_keys=text)
    with pytest.raises(StoreConfigurationError, match=problem) as caught:
        load_keys(settings)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__)
    assert not [part for part in (CANARY, NEW.entry[4:], OLD.entry[4:]) if part in told]


def test_a_file_that_others_may_read_is_refused(key_file: Path) -> None:
    """With the command that closes it; so are a folder, a pipe that nobody writes to and a file that is not there."""
    key_file.chmod(0o640)
    with pytest.raises(StoreConfigurationError, match=r"open to others .*0640.*chmod 600"):
        keys_of(encryption_key_file=key_file)
    with pytest.raises(StoreConfigurationError, match="is not a file"):
        keys_of(encryption_key_file=key_file.parent)
    os.mkfifo(key_file.parent / "pipe", 0o600)
    with pytest.raises(StoreConfigurationError, match="is not a file"):
        keys_of(encryption_key_file=key_file.parent / "pipe")
    with pytest.raises(StoreConfigurationError, match="does not exist"):
        keys_of(encryption_key_file=key_file.parent / "absent")
    key_file.chmod(0o600)
    key_file.write_bytes(b"\xff" * 100)
    with pytest.raises(StoreConfigurationError, match="no plain text"):
        keys_of(encryption_key_file=key_file)
    key_file.write_text("#" * 70_000)
    with pytest.raises(StoreConfigurationError, match=r"more than 65,536 bytes"):
        keys_of(encryption_key_file=key_file)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (f"{sys.executable} -c \"import sys; print('{CANARY}'); sys.exit('{CANARY}')\"", "ended with exit code 1"),
        ("no-such-command-here", "cannot be run: No such file"),
        ("cat 'half", "quotes must be closed"),
        ("sleep 20", "was not done after 0.2 s"),
    ],
)
def test_a_command_that_gives_no_keys_is_told_without_its_output(
    command: str, problem: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor does what it prints end up on the terminal. One that hangs is killed."""
    monkeypatch.setattr("workflows_mcp.persistence.keys._COMMAND_SECONDS", 0.2 if "sleep" in command else 30)
    with pytest.raises(StoreConfigurationError, match=problem) as caught:
        keys_of(encryption_key_command=command)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert capfd.readouterr() == ("", "")


def test_what_a_command_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    """An agent that it has started keeps its stdout open."""
    pid = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {shlex.quote(str(pid))}; echo {NEW.entry}"
    began = time.monotonic()
    try:
        keys = keys_of(encryption_key_command=shlex.join(["sh", "-c", script]))
        assert keys is not None
        assert keys.keys == (NEW,)
        assert time.monotonic() - began < 5
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_a_command_is_not_a_shells(tmp_path: Path) -> None:
    """What would be one in a shell is an argument like any other."""
    with pytest.raises(StoreConfigurationError):
        keys_of(encryption_key_command=f"echo a; touch {tmp_path / 'made'}")
    assert not (tmp_path / "made").exists()


def test_only_one_setting_names_the_keys(key_file: Path) -> None:
    """Which of two was meant, nobody could tell."""
    with pytest.raises(StoreConfigurationError, match=r"_KEYS and .*_KEY_FILE are set"):
        keys_of(encryption_keys=NEW.entry, encryption_key_file=key_file)


def test_required_keys_that_are_missing_are_an_error() -> None:
    """Before anything is saved in plain text."""
    with pytest.raises(StoreConfigurationError, match="WORKFLOWS_ENCRYPTION is 'required', and there are no keys"):
        SQLAlchemyCheckpointStore("runs.db", settings=Settings(encryption="required"))


async def test_no_key_is_in_what_is_logged_or_shown(
    tmp_path: Path, sqlite_template: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in a `repr` either, of the settings, the keys or the store and all that it is made of."""
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "runs.db"
    path.write_bytes(sqlite_template.read_bytes())
    settings = load_settings(encryption_keys=NEW.entry)
    async with SQLAlchemyCheckpointStore(path, settings=settings) as store:
        await store.list_checkpoints()
        codec = store._codec
        shown = [settings, settings.model_dump(), codec, codec.keys, NEW, vars(store), vars(codec), vars(codec._seal)]
        told = "\n".join([*map(repr, shown), *map(str, shown), caplog.text])
    assert NEW.entry[4:] not in told
    assert repr(NEW.secret)[2:-1] not in told


def test_fingerprints_tell_keys_of_one_id_apart() -> None:
    """And two keys that are the same are alike."""
    assert len({new_key("a").fingerprint for _ in range(20)}) == 20
    keys = keys_of(encryption_keys=NEW.entry.replace("+", "-").replace("/", "_"))
    assert keys is not None
    assert keys.newest.fingerprint == NEW.fingerprint
