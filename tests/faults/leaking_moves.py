"""Errors of what is moved and of what is sealed, each with something at hand that it must not tell."""

import dataclasses

from pydantic import SecretStr

from tests.faults.leaking import CANARY, Scene, raises
from workflows_mcp import (
    CheckpointConflictError,
    CheckpointFileError,
    CheckpointKeyError,
    SQLAlchemyCheckpointStore,
    export_checkpoints,
    import_checkpoints,
)
from workflows_mcp.persistence.keys import new_key
from workflows_mcp.settings import Settings


@raises(CheckpointConflictError)
async def _an_import_of_other_content(scene: Scene) -> None:
    path = scene.place.folder / "other.jsonl"
    await scene.store.save_checkpoint(scene.state("refused"))
    try:
        await export_checkpoints(scene.store, path)
        await scene.store.save_checkpoint(scene.state("refused", context={"other": CANARY}))
        await import_checkpoints(scene.store, path)
    finally:
        path.unlink(missing_ok=True)
        await scene.store.delete_checkpoint("refused")


@raises(CheckpointFileError)
async def _a_file_that_was_changed(scene: Scene) -> None:
    path = scene.place.folder / "changed.jsonl"
    try:
        await export_checkpoints(scene.store, path)
        path.write_bytes(path.read_bytes().replace(f"prompt {CANARY}".encode(), f"prOmpt {CANARY}".encode()))
        await import_checkpoints(scene.store, path)
    finally:
        path.unlink(missing_ok=True)


@raises(CheckpointKeyError)
async def _a_key_that_is_missing(scene: Scene) -> None:
    settings = Settings(deadline_seconds=1.0, encryption_keys=SecretStr(new_key().entry))
    sealed = SQLAlchemyCheckpointStore(scene.place.url, settings=settings)
    try:
        await sealed.save_checkpoint(dataclasses.replace(scene.state("refused"), run_id=None))
        await scene.store.load_checkpoint("refused")
    finally:
        await sealed.delete_checkpoint("refused")
        await sealed.close()
