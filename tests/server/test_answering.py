"""A run's question reaches the human: by a form where the client has one, by the model's text where it has not."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import ElicitRequestParams, ElicitResult, InputRequiredResult

from tests.server.conversation import MODES, Conversation, Mode, Said, settings_of, talking
from workflows_mcp.server.app import build_server
from workflows_mcp.server.http.tokens import load_tokens
from workflows_mcp.server.services import open_services

Meanwhile = Callable[[], Awaitable[object]]


@dataclass
class Human:
    """Who sits before the client, and answers what is asked in a form.

    Attributes:
        answers: What they say, in turn; None: they decline; `""`: they close the form.
        asked: What they were asked.
        meanwhile: What happens elsewhere while they think.
    """

    answers: list[str | None]
    asked: list[Any] = field(default_factory=list)
    meanwhile: Meanwhile | None = None

    async def __call__(self, context: object, params: ElicitRequestParams) -> ElicitResult:  # noqa: ARG002 - the SDK's
        """Answer a form."""
        self.asked.append(params)
        if self.meanwhile is not None:
            await self.meanwhile()
        answer = self.answers.pop(0)
        if answer is None or not answer:
            return ElicitResult(action="decline" if answer is None else "cancel")
        return ElicitResult(action="accept", content={"response": answer})


async def asked(call: Conversation, workflow: str) -> str:
    """The checkpoint of a new run of a workflow that asks."""
    said = await call.ok("execute_workflow", workflow=workflow)
    assert said.data["status"] == "paused"
    return str(said.data["checkpoint_id"])


@pytest.mark.parametrize("mode", MODES)
async def test_the_human_is_asked_by_a_form_with_the_choices(tmp_path: Path, mode: Mode) -> None:
    """When a call gives no answer; theirs lets the run go on."""
    human = Human(["no"])
    async with talking(settings_of(tmp_path), mode, elicitation_callback=human) as call:
        paused = await call.ok("execute_workflow", workflow="approve")
        assert "and no response: your user is then asked directly" in paused.text
        ended = await call.ok("resume_workflow", checkpoint_id=paused.data["checkpoint_id"], response=None)
    assert ended.data["outputs"] == {"answer": "no"}
    [form] = human.asked
    assert form.message == "Deploy?"
    assert form.requested_schema["properties"]["response"]["enum"] == ["yes", "no"]
    assert form.requested_schema["required"] == ["response"]


@pytest.mark.parametrize("mode", MODES)
async def test_an_answer_that_the_question_refuses_is_an_error_and_the_run_still_waits(
    tmp_path: Path, mode: Mode
) -> None:
    """Whoever gives it: a pattern is told in the form, and looked at by the run."""
    human = Human(["ticket four", "OPS-4"])
    async with talking(settings_of(tmp_path), mode, elicitation_callback=human) as call:
        checkpoint_id = await asked(call, "ticket")
        for refusal in (
            await call.refused("resume_workflow", checkpoint_id=checkpoint_id),
            await call.refused("resume_workflow", checkpoint_id=checkpoint_id, response="ticket four"),
        ):
            assert r"must match the pattern [A-Z]+-\d+" in refusal
            assert "still waits" in refusal
            assert "four" not in refusal
        ended = await call.ok("resume_workflow", checkpoint_id=checkpoint_id)
    assert ended.data["outputs"] == {"ticket": "OPS-4"}
    assert r"[A-Z]+-\d+" in human.asked[0].requested_schema["properties"]["response"]["description"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("answer", "word"), [(None, "declined to answer"), ("", "did not answer")])
async def test_a_human_who_does_not_answer_leaves_the_run_waiting(
    tmp_path: Path, mode: Mode, answer: str | None, word: str
) -> None:
    """The model is told so, and what is still asked."""
    async with talking(settings_of(tmp_path), mode, elicitation_callback=Human([answer])) as call:
        checkpoint_id = await asked(call, "approve")
        said = await call.ok("resume_workflow", checkpoint_id=checkpoint_id)
        assert word in said.text
        assert (said.data["status"], said.data["checkpoint_id"]) == ("paused", checkpoint_id)
        assert (await call.ok("resume_workflow", checkpoint_id=checkpoint_id, response="yes")).data["outputs"]


@pytest.mark.parametrize("mode", MODES)
async def test_where_the_client_has_no_form_the_question_is_the_answer(tmp_path: Path, mode: Mode) -> None:
    """The model asks then."""
    async with talking(settings_of(tmp_path), mode) as call:
        checkpoint_id = await asked(call, "approve")
        said = await call.ok("resume_workflow", checkpoint_id=checkpoint_id)
    assert (said.data["status"], said.data["prompt"]) == ("paused", "Deploy?")
    assert said.data["choices"] == ["yes", "no"]
    assert "ask your user" in said.text


@pytest.mark.parametrize("mode", MODES)
async def test_an_answer_that_comes_too_late_is_not_taken(tmp_path: Path, mode: Mode) -> None:
    """Somebody else has answered while the human was thinking."""
    human = Human(["no"])
    async with talking(settings_of(tmp_path), mode, elicitation_callback=human) as call:
        checkpoint_id = await asked(call, "approve")
        human.meanwhile = lambda: call.services.executor.resume_workflow(checkpoint_id, "yes")
        refusal = await call.refused("resume_workflow", checkpoint_id=checkpoint_id)
    assert "answered already" in refusal
    assert "get_run" in refusal


async def test_nobody_is_asked_what_does_not_wait(tmp_path: Path) -> None:
    """A checkpoint that is not there, that is the end of a run, or the history of one that waits elsewhere now."""
    human = Human([])
    async with talking(settings_of(tmp_path), elicitation_callback=human) as call:
        assert "there is no checkpoint 'no'" in await call.refused("resume_workflow", checkpoint_id="no")
        assert "list_checkpoints" in await call.refused("resume_workflow", checkpoint_id="no", response="yes")
        failed = await call.ok("execute_workflow", workflow="fail")
        over = await call.refused("resume_workflow", checkpoint_id=failed.data["checkpoint_id"])
        assert "its run is over (failure)" in over
        waiting = await asked(call, "approve")
        listed = await call.services.store.list_checkpoints("approve")
        history = next(one.checkpoint_id for one in listed if one.checkpoint_id != waiting)
        gone_on = await call.refused("resume_workflow", checkpoint_id=history, response="yes")
        assert f'its run waits now at checkpoint_id="{waiting}"' in gone_on
        await call.services.executor.cancel(str(listed[0].run_id))
        assert "its run cancelled" in await call.refused("resume_workflow", checkpoint_id=waiting)
    assert human.asked == []


async def test_of_two_servers_that_are_answered_at_once_one_goes_on(tmp_path: Path, database_url: str) -> None:
    """The other one says so."""
    settings = settings_of(tmp_path, database_url)
    async with talking(settings) as first, talking(settings) as second:
        checkpoint_id = await asked(first, "approve")
        said: list[Said] = await asyncio.gather(
            *(call("resume_workflow", checkpoint_id=checkpoint_id, response="yes") for call in (first, second))
        )
        [refused], [taken] = ([one for one in said if one.is_error is wanted] for wanted in (True, False))
    assert taken.data["status"] == "success"
    assert f'get_run with run_id="{taken.data["run_id"]}"' in refused.text


async def test_a_default_that_will_be_taken_is_told(tmp_path: Path) -> None:
    """With the time at which it is."""
    text = """
name: soon
blocks:
  - {id: ask, type: Prompt, inputs: {prompt: "Now?", timeout_seconds: 3600, default: "later"}}
"""
    async with talking(settings_of(tmp_path)) as call:
        said = await call.ok("execute_inline_workflow", workflow_yaml=text)
    assert 'UTC, the run goes on with "later".' in said.text


TOKEN = "a-token-that-is-long-enough-for-a-server-0001"


@pytest.mark.parametrize("token", [TOKEN, None])
@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_form_can_be_answered_to_another_server_with_the_same_token(
    tmp_path: Path, database_url: str, token: str | None
) -> None:
    """One that has taken the first one's place, say; without a token an answer counts where it was asked for."""
    settings = settings_of(tmp_path, database_url, http_token=token)
    human = Human(["yes"])
    async with talking(settings, elicitation_callback=human) as call:
        checkpoint_id = await asked(call, "approve")
        question = await call.client.session.call_tool(
            "resume_workflow", {"checkpoint_id": checkpoint_id}, allow_input_required=True
        )
        assert isinstance(question, InputRequiredResult)
        [key] = question.input_requests or {}
    async with (
        open_services(settings) as services,
        Client(build_server(services, tokens=load_tokens(settings)), elicitation_callback=human) as later,
    ):
        answering = later.session.call_tool(
            "resume_workflow",
            {"checkpoint_id": checkpoint_id},
            input_responses={key: ElicitResult(action="accept", content={"response": "yes"})},
            request_state=question.request_state,
        )
        if token is None:
            with pytest.raises(MCPError, match="requestState"):
                await answering
            return
        assert Said.of(await answering).data["outputs"] == {"answer": "yes"}
