"""Runs whose every text would be a script, if a page took it for HTML."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.server.ui.browser.windows import ATTACK
from workflows_mcp import SQLAlchemyCheckpointStore, WorkflowExecutor, upgrade_schema
from workflows_mcp.server.ui.paths import path_to
from workflows_mcp.testing import make_state

__all__ = ["attack", "hostile_paths", "save_hostile_runs"]


def attack(place: str) -> str:
    """A text that calls the function which nobody calls, in whatever way a page takes it for more than text."""
    call = f"{ATTACK}('{place}')"
    return (
        f'{place}\'"></title></textarea></script><script>{call}</script><img src=x onerror="{call}">'
        f'<svg onload="{call}"><a href="javascript:{call}">{{{{ 7 * 7 }}}}{{% raw %}}<b hx-get=/ui hx-trigger=load>'
    )


WAITING, FAILED, OTHER = attack("run waiting"), attack("run failed"), attack("run of others")


async def save_hostile_runs(database: Path) -> None:
    """Make a database of them: one that waits, one that failed, one of another program."""
    await upgrade_schema(database)
    async with SQLAlchemyCheckpointStore(database) as store:
        executor = WorkflowExecutor(store)
        await executor.execute_workflow(_ASKING, {"said": attack("said")}, run_id=WAITING)
        await executor.execute_workflow(_FAILING, {"said": attack("stderr")}, run_id=FAILED)
        for number in range(2):
            await store.save_checkpoint(_state_of_others(number), follows=_id_of_others(0) if number else None)


def _id_of_others(number: int) -> str:
    return f"{number}{attack('checkpoint')}"


def _state_of_others(number: int) -> Any:
    block = attack("block")
    return make_state(
        _id_of_others(number),
        run_id=OTHER,
        workflow_name=attack("workflow"),
        created_at=time.time(),
        status="paused",
        runtime_inputs={attack("input name"): attack("input")},
        context={
            "blocks": {block: {"outputs": {attack("output name"): [attack("output"), number]}}},
            "error": attack("error"),
            attack("key"): {"deep": {attack(f"key {number}"): [[attack("value")] * 3] * 3}},
        },
        completed_blocks=[block] * number,
        execution_waves=[[block], [attack("later")]],
        current_wave_index=number,
        block_definitions={block: {"type": attack("type"), "depends_on": []}, attack("later"): {"depends_on": [block]}},
        workflow_stack=[attack("stack")],
        paused_block_id=attack("paused block"),
        pause_prompt=attack("prompt"),
        pause_metadata={
            "choices": [attack("choice"), attack("another")],
            "pattern": attack("pattern"),
            "default": attack("default"),
            "expires_at": time.time() + 3600,
            "pending": [attack("pending")],
        },
    )


async def hostile_paths(database: Path) -> dict[str, str]:
    """Where these runs are seen, and what a person could be sent to by a link."""
    async with SQLAlchemyCheckpointStore(database) as store:
        [asked, *_] = await store.list_checkpoints(run_id=WAITING)
    ids = {"waiting": asked.checkpoint_id, "of others": _id_of_others(1)}
    query = {name: attack(name) for name in ("status", "workflow", "text", "after", "until", "before")}
    return {
        "runs": path_to(""),
        "runs by their texts": path_to("", workflow=attack("workflow"), text=attack("text")),
        "runs by nonsense": f"/ui?{urlencode(query)}",
        "all that waits": path_to("waiting"),
        "health": path_to("health"),
        **{f"run: {one[:8]}": path_to("run", id=one) for one in (WAITING, FAILED, OTHER)},
        "run at a checkpoint": path_to("run", id=OTHER, at=_id_of_others(0)),
        "no run": path_to("run", id=attack("no run")),
        **{f"question {name}": path_to("answer", checkpoint=one) for name, one in ids.items()},
        **{f"state {name}": path_to("state", checkpoint=one) for name, one in ids.items()},
        "state at a path": path_to("state", checkpoint=ids["of others"], path=f"/context/{attack('key')}"),
        "no state": path_to("state", checkpoint=attack("none"), path=attack("path")),
        "difference": path_to("diff", a=_id_of_others(0), b=_id_of_others(1)),
        "no difference": path_to("diff", a=attack("a"), b=attack("b")),
        "fork": path_to("fork", checkpoint=ids["of others"]),
        "login": path_to("login", to=f"//elsewhere.test/{attack('to')}"),
    }


_ASKING = """
name: asking
inputs:
  said: {description: What is said and asked}
blocks:
  - {id: say, type: Shell, inputs: {command: 'printf %s "$SAID"', env: {SAID: "{{ inputs.said }}"}}}
  - id: ask
    type: Prompt
    depends_on: [say]
    inputs: {prompt: "{{ blocks.say.outputs.stdout }}", choices: ["{{ inputs.said }}", "no"]}
outputs:
  answer: "{{ blocks.ask.outputs.response }}"
"""

_FAILING = """
name: failing
inputs:
  said: {description: What the command complains of}
blocks:
  - {id: fail, type: Shell, inputs: {command: 'printf %s "$SAID" >&2; exit 3', env: {SAID: "{{ inputs.said }}"}}}
"""
