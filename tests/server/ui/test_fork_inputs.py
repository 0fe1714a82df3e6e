"""The inputs of a run in the form for another one."""

import html
import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.probe import text
from tests.server.ui.visiting import text_of, visiting
from workflows_mcp import WorkflowExecutor
from workflows_mcp.persistence.store import create_checkpoint_store
from workflows_mcp.server.ui.fork_inputs import Refilled, changed_inputs, inputs_in, refilled
from workflows_mcp.server.visible import visible

ODD: dict[str, Any] = {
    "text": "Café\r\n\t\x7f\u202e\u2028</textarea>&amp;",
    "half": "\ud83d",
    "numbers": [1, 1.0, True, None, 10**30, -0.0],
    "": {"b": 1, "a": []},
}


def unmasked(value: Any) -> Any:
    """Where there are no secrets."""
    return value


def without_pass(value: Any) -> Any:
    """As `Secrets.scrub`: what holds no secret is given back as it is."""
    return json.loads(json.dumps(value).replace("pass", "***")) if "pass" in json.dumps(value) else value


def test_what_is_not_changed_is_no_other_input() -> None:
    """Whatever it holds, and though a page shows what would hide in it, and a browser sends its own line breaks."""
    shown = visible(refilled(ODD, unmasked).text).encode(errors="replace").decode()
    assert changed_inputs(inputs_in(shown.replace("\n", "\r\n")), ODD, unmasked) == {}
    assert "Café" in refilled({"a": "Café"}, unmasked).text
    typed = {"numbers": [1, 1, True, None, 10**30, -0.0], "new": None}
    assert changed_inputs(typed, ODD, unmasked) == typed
    assert changed_inputs(typed, None, unmasked) == typed
    assert changed_inputs({"login": "my pass"}, {"login": "my pass"}, without_pass) == {"login": "my pass"}


def test_what_holds_a_secret_or_is_long_is_left_out_and_named() -> None:
    """A mask would be taken for the new value; and a page has an end."""
    inputs = {"a": 1, "login": ["my pass"], "pass": 1, "log": "x" * 3_000, "b": 2}
    found = refilled(inputs, without_pass)
    assert json.loads(found.text) == {"a": 1, "b": 2}
    assert (found.secret, found.long, found.more, found.is_whole) == (("login", "***"), ("log",), 0, False)
    many = refilled({f"n{number}": "x" * 1_900 for number in range(5_000)}, unmasked)
    assert len(many.text) < 30_000
    assert len(json.loads(many.text)) + len(many.long) + many.more == 5_000
    for foreign in (None, [1], {"a": object()}, {"a": float("nan")}):
        assert refilled(foreign, unmasked).text == ""
    assert refilled({}, unmasked) == Refilled()


async def test_a_run_is_begun_again_with_its_own_inputs_after_an_answer(
    runs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are refused there, and these are none; one that holds a secret stays what it was without being shown."""
    async with create_checkpoint_store(str(runs_file)) as store:
        executor = WorkflowExecutor(store)
        ask = {"id": "ask", "type": "Prompt", "inputs": {"prompt": "Go?"}}
        inputs = {"count": {"type": "num"}, "word": {"type": "str"}}
        paused = await executor.execute_workflow(
            text(ask, inputs=inputs), {"count": 1.0, "word": "hunter2"}, run_id="r1"
        )
        assert (await executor.resume_workflow(paused.checkpoint_id or "", "yes")).is_success
        answered = (await store.list_checkpoints(run_id="r1"))[1]
        monkeypatch.setenv("WORKFLOW_SECRET_WORD", "hunter2")
        path = f"/ui/fork?checkpoint={answered.checkpoint_id}"
        async with visiting(runs_file) as visitor:
            form = await visitor.get(path)
            typed = html.unescape(form.text.partition("<textarea")[2].partition(">")[2].partition("</textarea>")[0])
            assert json.loads(typed) == {"count": 1.0}
            assert "Not shown, since it holds a secret: word. What is not shown stays as it was" in text_of(form)
            begun = await visitor.send(path, run_id="r2", inputs=typed)
            assert begun.url.params["id"] == "r2"
            other = await visitor.send(path, run_id="r3", inputs='{"count": 2}')
            assert (other.status_code, "holds an answer" in text_of(other)) == (422, True)
        assert (await executor.wait_for_run("r2", 10)).is_success
