"""What people are shown of a run holds no secret, hides nothing, and is what they answer to."""

import json
from pathlib import Path
from typing import Any

import pytest
from mcp_types import ElicitResult

from tests.server.conversation import MODES, Mode, settings_of, talking
from tests.server.test_answering import Human, asked

SECRET = "kept-before-it-was-one"

KEEPS = f"""
name: keeps
blocks:
  - {{id: tell, type: Shell, inputs: {{command: "echo {SECRET}; exit {{{{ inputs.code }}}}"}}}}
  - id: ask
    type: Prompt
    depends_on: [tell]
    inputs: {{prompt: "Use {SECRET}?", choices: ["{SECRET}", "no"]}}
inputs: {{code: {{type: num}}}}
outputs: {{said: "{{{{ blocks.ask.outputs.response }}}} of {{{{ blocks.tell.outputs.stdout }}}}"}}
"""

HIDES = r"""
name: hides
blocks:
  - id: ask
    type: Prompt
    inputs: {prompt: "rm -rf / #\r\x1b[2Kls\u202e", choices: ["\x1b[2Jyes", "no"]}
outputs: {said: "{{ blocks.ask.outputs.response }}"}
"""


@pytest.mark.parametrize("mode", MODES)
async def test_what_has_become_a_secret_since_a_run_was_saved_is_told_by_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    """Nor by a form; a choice that holds one can be made all the same."""
    human = Human([None, "***"])
    settings = settings_of(tmp_path, str(tmp_path / "runs.db"))
    calls: list[tuple[str, dict[str, Any]]] = []
    async with talking(settings, mode) as call:
        for name, code in (("asks", 0), ("failed", 1), ("done", 0)):
            begun = await call.ok("execute_inline_workflow", workflow_yaml=KEEPS, inputs={"code": code}, run_id=name)
            calls.append(("execute_inline_workflow", {"workflow_yaml": KEEPS, "inputs": {"code": 0}, "run_id": name}))
            if name == "asks":
                checkpoint_id = begun.data["checkpoint_id"]
        await call.ok("resume_workflow", checkpoint_id=begun.data["checkpoint_id"], response="no")
    monkeypatch.setenv("WORKFLOW_SECRET_LATE", SECRET)
    calls += [("cancel_run", {"run_id": name}) for name in ("failed", "done")]
    calls.append(("resume_workflow", {"checkpoint_id": checkpoint_id, "response": f"{SECRET} x"}))
    calls += 2 * [("resume_workflow", {"checkpoint_id": checkpoint_id})]
    texts = []
    async with talking(settings, mode, elicitation_callback=human) as call:
        for tool, arguments in calls:
            said = await call(tool, **arguments)
            texts.append(said.text + json.dumps(said.data))
    assert [text for text in texts if SECRET in text] == []
    assert SECRET not in str(human.asked)
    assert human.asked[0].message == "Use ***?"
    assert human.asked[0].requested_schema["properties"]["response"]["enum"] == ["***", "no"]
    assert said.data["status"] == "success"
    assert said.data["outputs"]["said"].startswith("*** of ***")


async def test_what_would_hide_a_part_of_a_question_is_shown(tmp_path: Path) -> None:
    """In the form and in the text; what is answered is the choice itself."""
    human = Human([r"\x1b[2Jyes"])
    async with talking(settings_of(tmp_path), elicitation_callback=human) as call:
        paused = await call.ok("execute_inline_workflow", workflow_yaml=HIDES)
        shown = r"rm -rf / #\x0d\x1b[2Kls\u202e"
        assert shown in paused.text
        ended = await call.ok("resume_workflow", checkpoint_id=paused.data["checkpoint_id"])
        assert human.asked[0].message == shown
        assert ended.data["outputs"] == {"said": "\x1b[2Jyes"}
        command = "echo a #\r\x1b[2K\u202e\nls"
        guarded = await call.ok("execute_workflow", workflow="guarded-command", inputs={"command": command})
    assert r'Run this command: "echo a #\r\u001b[2K\u202e\nls"' in guarded.text


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("content", [None, {}, {"response": 5}, {"response": ["yes"]}, {"other": "yes"}])
async def test_a_form_that_comes_back_with_something_else_is_told_in_our_words(
    tmp_path: Path, mode: Mode, content: dict[str, Any] | None
) -> None:
    """And the run still waits."""

    async def garbage(*_: object) -> ElicitResult:
        return ElicitResult(action="accept", content=content)

    async with talking(settings_of(tmp_path), mode, elicitation_callback=garbage) as call:
        checkpoint_id = await asked(call, "approve")
        told = await call.refused("resume_workflow", checkpoint_id=checkpoint_id)
        assert "Resolver" not in told
        assert "nothing was done, and the run still waits" in told
        ended = await call.ok("resume_workflow", checkpoint_id=checkpoint_id, response="yes")
        assert ended.data["outputs"] == {"answer": "yes"}


@pytest.mark.parametrize("nothing", ["", " \n"])
async def test_a_model_that_passes_on_nothing_has_not_answered(tmp_path: Path, nothing: str) -> None:
    """The human is asked, or the model told to ask; a form that a human left empty is an answer."""

    async def leave_empty(*_: object) -> ElicitResult:
        return ElicitResult(action="accept", content={"response": ""})

    settings = settings_of(tmp_path, str(tmp_path / "runs.db"))
    async with talking(settings) as call:
        checkpoint_id = await asked(call, "anything")
        waiting = await call.ok("resume_workflow", checkpoint_id=checkpoint_id, response=nothing)
        assert waiting.data["status"] == "paused"
        assert "do not answer in their place" in waiting.text
    async with talking(settings, elicitation_callback=leave_empty) as call:
        ended = await call.ok("resume_workflow", checkpoint_id=checkpoint_id, response=nothing)
    assert ended.data["outputs"] == {"said": ""}
