"""`serve`, and the bare command: a setting that is wrong is told before anybody is served."""

import pytest

from tests.cli.conftest import CLI


@pytest.mark.parametrize("words", [(), ("serve",), ("serve", "--log-format", "text")])
def test_a_setting_that_is_wrong_is_one_line(cli: CLI, words: tuple[str, ...]) -> None:
    """Whichever way the server is begun."""
    outcome = cli(*words, env={"WORKFLOWS_INLINE_WORKFLOWS": "perhaps"})
    assert (outcome.code, outcome.out) == (1, "")
    assert "WORKFLOWS_INLINE_WORKFLOWS" in outcome.error()
