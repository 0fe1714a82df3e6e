"""`serve`, and the bare command: what is wrong with the settings is said before anybody is served."""

import pytest

from tests.cli.conftest import CLI


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("WORKFLOWS_DATABASE_URL", "mysql://someone:s3cret@host/runs", "mysql"),
        ("WORKFLOWS_INLINE_WORKFLOWS", "perhaps", "WORKFLOWS_INLINE_WORKFLOWS"),
    ],
)
def test_a_setting_that_is_wrong_is_one_line(cli: CLI, name: str, value: str, word: str) -> None:
    """Before anything is served."""
    outcome = cli("serve", env={name: value})
    assert (outcome.code, outcome.out) == (1, "")
    assert word in outcome.error()
    assert "s3cret" not in outcome.err
