"""Errors about states, leases, workflows and secrets, each with something at hand that it must not tell."""

import tempfile
import zlib

from tests.faults.leaking import CANARY, WORKFLOW, Scene, raises
from workflows_mcp import (
    BlockTypeDisabledError,
    CheckpointAlreadyClaimedError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointNotFoundError,
    CheckpointTooLargeError,
    ExecutorStoppedError,
    LeaseLostError,
    ScratchFolderError,
    SecretError,
    WorkflowDefinitionError,
    WorkflowExecutor,
    WorkflowNotFoundError,
)


class _Talker:
    """Whoever prints it, tells."""

    def __repr__(self) -> str:
        return f"<{CANARY}>"

    __str__ = __repr__


@raises(CheckpointEncodeError)
async def _an_object_that_talks(scene: Scene) -> None:
    await scene.store.save_checkpoint(scene.state("refused", context={"value": [1, _Talker()]}))


@raises(CheckpointEncodeError)
async def _a_set(scene: Scene) -> None:
    await scene.store.save_checkpoint(scene.state("refused", pause_metadata={"value": {CANARY}}))


@raises(CheckpointEncodeError)
async def _half_a_character(scene: Scene) -> None:
    await scene.store.save_checkpoint(scene.state("refused", pause_prompt=f"{CANARY}\ud800"))


@raises(CheckpointTooLargeError)
async def _too_much(scene: Scene) -> None:
    await scene.store.save_checkpoint(scene.state("refused"), max_bytes=50)


def _checked(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(4, "big") + body


@raises(CheckpointDecodeError)
async def _bad_JSON(scene: Scene) -> None:  # noqa: N802 - as it is written
    await scene.damage("bad JSON", "json", _checked(b'{"context": "%b' % CANARY.encode()))
    await scene.store.load_checkpoint("bad JSON")


@raises(CheckpointDecodeError)
async def _an_unknown_field(scene: Scene) -> None:
    await scene.damage("unknown", "json", _checked(b'{"%b": "%b"}' % (CANARY.encode(), CANARY.encode())))
    await scene.store.claim_checkpoint("unknown", "claimant")


@raises(CheckpointDecodeError)
async def _bad_JSON_of_the_guide(scene: Scene) -> None:  # noqa: N802 - as above
    await scene.damage("guide", "guide-json", b'{"context": "%b\xff' % CANARY.encode())
    async for _ in scene.store.iter_checkpoints():
        pass


@raises(CheckpointDecodeError)
async def _a_wrong_checksum(scene: Scene) -> None:
    await scene.damage("checksum", "json", b"\0\0\0\0" + CANARY.encode())
    await scene.store.load_checkpoint("checksum")


@raises(CheckpointNotFoundError)
async def _nothing_there(scene: Scene) -> None:
    await scene.store.claim_checkpoint("nowhere", f"owner-{CANARY}")


@raises(CheckpointAlreadyClaimedError)
async def _claimed_by_somebody(scene: Scene) -> None:
    await scene.store.claim_checkpoint("there", f"owner-{CANARY}")


@raises(CheckpointAlreadyClaimedError)
async def _history(scene: Scene) -> None:
    await scene.store.claim_checkpoint("old", f"owner-{CANARY}")


@raises(LeaseLostError)
async def _another_ones_lease(scene: Scene) -> None:
    await scene.store.renew_lease("there", f"owner-{CANARY}")


@raises(LeaseLostError)
async def _a_save_under_another_ones_lease(scene: Scene) -> None:
    await scene.store.save_checkpoint(scene.state("next"), follows="there", owner=f"owner-{CANARY}")


@raises(WorkflowNotFoundError)
async def _no_such_workflow(scene: Scene) -> None:
    await WorkflowExecutor(scene.store).execute_workflow("nowhere", {"input": CANARY})


@raises(WorkflowDefinitionError)
async def _an_input_of_a_wrong_type(scene: Scene) -> None:
    await WorkflowExecutor(scene.store).execute_workflow(WORKFLOW, {"number": f"{CANARY}"})


@raises(BlockTypeDisabledError)
async def _a_block_type_that_is_switched_off(scene: Scene) -> None:
    closed = WorkflowExecutor(scene.store, disabled_blocks=["Shell"])
    await closed.execute_workflow(WORKFLOW, {"number": f"{CANARY}"})


@raises(ExecutorStoppedError)
async def _an_executor_that_was_stopped(scene: Scene) -> None:
    executor = WorkflowExecutor(scene.store)
    await executor.stop()
    await executor.execute_workflow(WORKFLOW, {"number": f"{CANARY}"})


@raises(SecretError)
async def _a_secret_that_is_too_short(scene: Scene) -> None:
    import os

    os.environ["WORKFLOW_SECRET_SHORT"] = CANARY
    try:
        await WorkflowExecutor(scene.store).execute_workflow(WORKFLOW)
    finally:
        del os.environ["WORKFLOW_SECRET_SHORT"]


@raises(ScratchFolderError)
async def _a_folder_that_others_can_write(scene: Scene) -> None:
    from workflows_mcp.engine.scratch import scratch_folder

    before, tempfile.tempdir = tempfile.tempdir, str(scene.place.folder)
    try:
        folder = scratch_folder("a").parent
        folder.chmod(0o777)
        scratch_folder("b")
    finally:
        tempfile.tempdir = before
