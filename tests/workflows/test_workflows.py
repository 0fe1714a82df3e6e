"""The language, workflow by workflow: each of this folder does what is expected of it, on every store."""

import pytest
from pydantic import BaseModel

from tests.workflows.block_types import block_types
from tests.workflows.corpus import FOLDER, NAMES, cases_of, definition_of, path_of
from tests.workflows.playing import check
from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.engine.blocks import BLOCK_TYPES
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore

DURABLE = [
    "each_dict",
    "each_sequential",
    "file_outputs",
    "kept_types",
    "nested",
    "prompt_default",
    "prompts_each",
    "prompts_in_a_wave",
    "prompts_sequential",
    "retried_prompt",
    "secrets",
    "tmp",
]
"""Those that run on the databases too: all that pause, and some whose values or order a database could spoil."""


@pytest.fixture(autouse=True)
def _known_block_types(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, block_type in block_types().items():
        monkeypatch.setitem(BLOCK_TYPES, name, block_type)


@pytest.mark.parametrize("name", NAMES)
async def test_a_workflow_does_what_is_expected_of_it(name: str) -> None:
    """Whatever stands beside it, in every case."""
    for case in cases_of(name):
        await check(path_of(name), case, InMemoryCheckpointStore(), map(path_of, case.uses))


@pytest.mark.parametrize("name", DURABLE)
async def test_it_does_so_on_a_database(name: str, store: SQLAlchemyCheckpointStore) -> None:
    """With a new executor for every answer, as if each came to another server."""
    for case in cases_of(name):
        await check(path_of(name), case, store, map(path_of, case.uses))


def test_every_workflow_has_an_expectation() -> None:
    """And bears the name of its file."""
    files = sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.name.endswith(".expected.yaml"))
    assert files == NAMES
    assert [definition_of(name).name for name in NAMES] == NAMES


def keys_used(model: BaseModel) -> set[str]:
    """The keys that are written down somewhere in a definition, as `Model.key`."""
    used = {f"{type(model).__name__}.{key}" for key in model.model_fields_set}
    for key in model.model_fields_set:
        value = getattr(model, key)
        for one in [value, *(value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ())]:
            if isinstance(one, BaseModel):
                used |= keys_used(one)
    return used


def test_every_key_of_the_language_is_used_by_a_workflow() -> None:
    """A new one needs a workflow here that shows what it does."""
    from workflows_mcp.engine import definition

    models = [getattr(definition, name) for name in definition.__all__]
    known = {
        f"{model.__name__}.{key}"
        for model in models
        if isinstance(model, type) and issubclass(model, BaseModel)
        for key in model.model_fields
    }
    used = set().union(*(keys_used(definition_of(name)) for name in NAMES))
    assert known - used == set(), "no workflow in tests/workflows uses these"


def test_every_input_of_the_block_types_is_used_by_a_workflow() -> None:
    """Of those that come along."""
    blocks = [block for name in NAMES for block in definition_of(name).blocks]
    for block_type in ("Prompt", "Shell", "Workflow"):
        used = {key for block in blocks if block.type == block_type for key in block.inputs}
        assert set(BLOCK_TYPES[block_type].inputs.model_fields) - used == set()
