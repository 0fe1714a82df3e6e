"""What the settings make of the executor of a command."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CLI
from workflows_mcp.engine.checkpoint import CheckpointConfig
from workflows_mcp.engine.checkpoint_store import InMemoryCheckpointStore
from workflows_mcp.engine.policies import Limits, RetentionPolicy
from workflows_mcp.errors import StoreConfigurationError
from workflows_mcp.settings import Settings, load_settings
from workflows_mcp.wiring import make_executor

OTHERS: dict[str, tuple[str, Any]] = {
    "checkpoint_every": ("block", "block"),
    "max_checkpoint_size_mb": ("0.5", 0.5),
    "max_per_workflow": ("7", 7),
    "ttl_seconds": ("60", 60.0),
    "keep_paused": ("false", False),
    "auto_cleanup": ("0", False),
    "cleanup_interval_seconds": ("5", 5.0),
}
"""Values that differ from the defaults, as they stand in the environment and as they are."""


def config() -> CheckpointConfig:
    """The configuration of a command's executor."""
    return make_executor(InMemoryCheckpointStore(), load_settings()).checkpoint_config


def test_unset_the_settings_are_the_defaults_of_the_configuration() -> None:
    """There is one truth about them, in two places."""
    assert config() == CheckpointConfig()


@pytest.mark.parametrize("name", OTHERS)
def test_each_setting_reaches_the_executor(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """By its own variable, and changes nothing else."""
    text, value = OTHERS[name]
    monkeypatch.setenv(f"WORKFLOWS_{name.upper()}", text)
    assert config() == dataclasses.replace(CheckpointConfig(), **{name: value})


def test_the_length_of_a_lease_reaches_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no part of the configuration."""
    monkeypatch.setenv("WORKFLOWS_LEASE_SECONDS", "2.5")
    assert make_executor(InMemoryCheckpointStore(), load_settings()).lease_seconds == 2.5


def test_every_field_of_the_configuration_can_be_set() -> None:
    """But whether checkpoints are saved at all, without which the command line could not go on with anything."""
    fields = {field.name for field in dataclasses.fields(CheckpointConfig)}
    assert fields - load_settings().checkpoint_options.keys() == {"enabled", "policies"}
    assert set(OTHERS) == fields - {"enabled", "policies"}


def test_policies_for_some_workflows_reach_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is null is no limit, and what is not said is as for all workflows."""
    monkeypatch.setenv(
        "WORKFLOWS_RETENTION",
        '{"nightly import": {"max_per_workflow": 3, "ttl_seconds": null}, "audit": {"keep_paused": false}}',
    )
    nightly, audit = RetentionPolicy(max_per_workflow=3, ttl_seconds=None), RetentionPolicy(keep_paused=False)
    assert config() == CheckpointConfig(policies={"nightly import": nightly, "audit": audit})
    assert config().retention_rules.own == {
        "nightly import": Limits(max_per_workflow=3, ttl_seconds=None, keep_paused=True),
        "audit": Limits(max_per_workflow=50, ttl_seconds=7 * 86400, keep_paused=False),
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nightly: 3", "no JSON (line 1, column 1); it looks like"),
        ("[1]", "valid dictionary"),
        ('{"w": 3}', "'w'"),
        ('{"w": {"max": 3}}', "'w': 'max': Extra"),
        ('{"w": {"max_per_workflow": 0}}', "'w': 'max_per_workflow': "),
        ('{"w": {"ttl_seconds": "7d"}}', "'w': 'ttl_seconds': "),
        ('{"w": {"ttl_seconds": NaN}}', "'w': 'ttl_seconds': "),
        ('{"w": {"keep_paused": "no"}}', "'w': 'keep_paused': "),
        ('{"": {}}', "at least 1 character"),
        ('{"w": {}, "w": {"max_per_workflow": 1}}', "twice"),
        (r'{"w\u0000": {}}', "U+0000"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_its_place(
    monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    """By the settings, before anything is deleted by it."""
    monkeypatch.setenv("WORKFLOWS_RETENTION", text)
    with pytest.raises(StoreConfigurationError, match=r"a setting is wrong: WORKFLOWS_RETENTION: ") as error:
        load_settings()
    assert problem in str(error.value)


@pytest.mark.parametrize("name", ["max_checkpoint_size_mb", "max_per_workflow", "ttl_seconds"])
def test_none_means_no_limit(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An empty variable counts as not set, so there is a word for it."""
    monkeypatch.setenv(f"WORKFLOWS_{name.upper()}", "none")
    assert getattr(config(), name) is None


@pytest.mark.parametrize("name", [*OTHERS, "lease_seconds"])
def test_a_value_that_makes_no_sense_is_refused_by_its_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """And not by the executor later on."""
    variable = f"WORKFLOWS_{name.upper()}"
    monkeypatch.setenv(variable, "-1")
    with pytest.raises(StoreConfigurationError, match=variable):
        load_settings()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_no_finite_number_is_refused_for_that(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """By every setting that is a fraction, and with where all of them are described."""
    names = [name for name, field in Settings.model_fields.items() if "float" in str(field.annotation)]
    assert len(names) >= 5
    for name in names:
        with monkeypatch.context() as patch:
            patch.setenv(f"WORKFLOWS_{name.upper()}", value)
            with pytest.raises(StoreConfigurationError, match=f"{name.upper()}: Input should be a finite") as error:
                load_settings()
        assert "https://github.com/workflows-mcp/workflows-mcp/blob/main/docs/settings.md" in str(error.value)


def test_checkpoints_after_every_block_and_their_limit_are_obeyed_by_a_run(cli: CLI, tmp_path: Path) -> None:
    """The one saves more of them, the other fails the run."""
    block = "- {id: b%d, type: Shell, inputs: {command: 'yes | head -c 2000'}}\n"
    (tmp_path / "w.yaml").write_text("name: w\nblocks:\n" + "".join(block % number for number in range(3)))
    words = ("run", "w.yaml", "--database-url", "memory://")
    by_wave, by_block = (cli(*words, env={"WORKFLOWS_CHECKPOINT_EVERY": every}) for every in ("wave", "block"))
    assert by_wave.err.count("● checkpoint") == 3
    assert by_block.err.count("● checkpoint") > 3
    limited = cli(*words, env={"WORKFLOWS_MAX_CHECKPOINT_SIZE_MB": "0.004"})
    assert limited.code == 1
    assert "the limit is 4,194" in limited.err
