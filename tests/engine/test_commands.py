"""Commands that people are told to type: a shell makes of each word what it was, whatever is in it."""

import shutil
import subprocess

import pytest

from workflows_mcp.engine.commands import command_to_type

ODD = ["it's", "a b", "-x", "$HOME", "a\x15\x1b[31m'\\n\n", "\u202ereversed\x85", "tag\U000e0041d", "é\u200b1"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_what_is_not_seen_is_named_and_comes_out_as_it_was() -> None:
    """A terminal takes a control character for a key, in quotes too."""
    typed = command_to_type(["runs", "show"], ODD)
    assert typed.isprintable()
    script = f"workflows-mcp() {{ printf '%s\\0' \"$@\"; }}; {typed}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    assert done.stdout.decode().split("\0")[:-1] == ["runs", "show", "--", *ODD]


def test_a_usual_word_is_quoted_as_usual() -> None:
    """In any shell."""
    assert command_to_type(["runs", "show"], ["it is"]) == "workflows-mcp runs show 'it is'"


def test_every_command_has_its_options_wherever_they_stand() -> None:
    """Behind the ids, but before the dashes that end all options."""
    words, options = ["runs", "fork", "--input", "a=1"], ["--database-url", "my runs.db"]
    assert command_to_type(words, ["c"], options) == "workflows-mcp runs fork c --input a=1 --database-url 'my runs.db'"
    assert command_to_type(words, ["c", "-d"], options) == (
        "workflows-mcp runs fork --input a=1 --database-url 'my runs.db' -- c -d"
    )
