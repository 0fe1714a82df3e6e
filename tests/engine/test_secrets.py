"""Secrets: where they come from, and that nothing shows them."""

import base64
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows_mcp.engine.secrets import MIN_LINE, Secrets
from workflows_mcp.errors import SecretError
from workflows_mcp.settings import read_secrets

ODD = 'p@ss "wörd"/it\'s+100%\\\x07~?>'
"""A secret that every way of writing it changes."""

PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\nshort==\n-----END KEY-----\n"


def secrets_of(*values: str) -> Secrets:
    """These secrets, remembered."""
    secrets = Secrets(lambda: {f"S{number}": value for number, value in enumerate(values)})
    secrets.values()
    return secrets


def test_secrets_are_read_from_the_environment_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anew each time; what is empty or has another kind of name is none."""
    monkeypatch.setenv("WORKFLOW_SECRET_API_KEY_2", "abcdef")
    for other in ("WORKFLOW_SECRET_", "WORKFLOW_SECRET_lower", "WORKFLOW_SECRET_A-B", "OTHER_KEY"):
        monkeypatch.setenv(other, "ghijkl")
    monkeypatch.setenv("WORKFLOW_SECRET_EMPTY", "")
    assert read_secrets() == {"API_KEY_2": "abcdef"}
    secrets = Secrets()
    assert secrets.values() == {"API_KEY_2": "abcdef"}
    monkeypatch.setenv("WORKFLOW_SECRET_NEW", "mnopqr")
    assert secrets.values() == {"API_KEY_2": "abcdef", "NEW": "mnopqr"}


def test_a_secret_that_was_replaced_is_still_scrubbed() -> None:
    """What was made with it may come back."""
    current = {"KEY": "first-value"}
    secrets = Secrets(lambda: current)
    assert secrets.scrub("first-value") == "first-value"  # nobody has read it yet
    secrets.values()
    current["KEY"] = "second-value"
    assert secrets.values() == {"KEY": "second-value"}
    current.clear()
    assert secrets.values() == {}
    assert secrets.scrub_text("first-value, second-value") == "***, ***"


def test_the_values_cannot_be_changed() -> None:
    """They are a view for reading."""
    with pytest.raises(TypeError):
        secrets_of("abcdef").values()["S0"] = "x"  # type: ignore[index] # that is the point


@pytest.mark.parametrize("value", ["", "short", "  five5 \n", "\n" * 10])
def test_a_secret_that_is_too_short_is_refused_by_name_and_never_shown(value: str) -> None:
    """The others are remembered nevertheless."""
    secrets = Secrets(lambda: {"GOOD": "long-enough", "BAD": value, "ALSO_BAD": "x"})
    with pytest.raises(SecretError, match=r"WORKFLOW_SECRET_ALSO_BAD, WORKFLOW_SECRET_BAD: .* at least 6") as caught:
        secrets.values()
    if value.strip():
        assert value not in str(caught.value)
    assert secrets.scrub_text("long-enough") == "***"


@pytest.mark.parametrize(
    "write",
    [
        str,
        shlex.quote,
        lambda value: quote(value, safe=""),
        quote,
        quote_plus,
        lambda value: re.sub("%..", lambda match: match[0].lower(), quote(value)),
        json.dumps,
        lambda value: json.dumps(value, ensure_ascii=False),
        lambda value: base64.b64encode(value.encode()).decode(),
        lambda value: base64.b64encode(value.encode()).decode().rstrip("="),
        lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
        lambda value: base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
    ],
)
@pytest.mark.parametrize("value", [ODD, "abcdef", "it's a 'secret'", "ÿ?>~ÿ?>~", "a" * 58, PEM])
def test_a_secret_is_found_however_it_is_written(write: Callable[[str], str], value: str) -> None:
    """Nothing is left of it but the quotes."""
    written = write(value)
    scrubbed = secrets_of(value).scrub_text(f"<{written}>")
    assert scrubbed.replace('"', "").replace("'", "") == "<***>"


@given(st.binary(max_size=9), st.text("aZ0+/~ÿ?>", min_size=8, max_size=70), st.binary(max_size=9))
def test_a_secret_is_found_in_a_longer_text_that_was_encoded(before: bytes, value: str, after: bytes) -> None:
    """At every alignment; what is left around the stars gives less than two bytes of the secret at each end."""
    secrets = secrets_of(value)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(before + value.encode() + after).decode()
        left, stars, right = secrets.scrub_text(whole).partition("***")
        assert stars
        assert len(left) <= -(-len(before) * 8 // 6)
        assert len(right.rstrip("=")) <= -(-(len(after) + 1) * 8 // 6)


def test_the_lines_of_the_command_base64_are_scrubbed() -> None:
    """It breaks them."""
    value = "".join(f"{number:03}" for number in range(100))
    done = subprocess.run(["base64"], input=value, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 6
    assert set(secrets_of(value).scrub_text(done.stdout).split()) == {"***"}


def test_the_lines_of_a_secret_are_found_one_by_one() -> None:
    """The long ones: a short one might stand anywhere."""
    secrets = secrets_of(PEM)
    assert (
        secrets.scrub_text("1: MIIEvQIBADANBgkq\r\n2: hkiG9w0BAQEFAASC\n3: short==\n")
        == "1: ***\r\n2: ***\n3: short==\n"
    )
    assert secrets.scrub_text(PEM) == "***"
    assert secrets.scrub_text(PEM.strip()) == "***"
    long, short = "x" * MIN_LINE, "y" * (MIN_LINE - 1)
    assert secrets_of(f"{short}\r\n  {long}").scrub_text(f"{short} {long}") == f"{short} ***"


def test_white_space_around_a_secret_need_not_be_there() -> None:
    """A variable that was read from a file ends in a line break."""
    assert secrets_of("secret\n").scrub_text("a secret: secret\n!") == "a ***: ***!"


def test_secrets_that_overlap_leave_nothing_of_each_other() -> None:
    """The longer one goes first; of two that overlap in a text both are gone."""
    secrets = secrets_of("abcdef", "abcdefghijkl", "ghijklmnop")
    assert secrets.scrub_text("abcdefghijkl") == "***"
    assert secrets.scrub_text("abcdefghijklmnop") == "***"
    assert secrets.scrub_text("abcdef-abcdefabcdef") == "***-******"
    assert secrets_of("abaaba").scrub_text("abaabaaba!") == "***!"


def test_a_secret_of_digits_is_found_as_a_number() -> None:
    """What reads the text of a file, or an expression, may make one of it; other numbers stay."""
    secrets = secrets_of("00123456", "٣٤٥٦٧٨")
    assert secrets.scrub({"a": [123456, 123456.0, 345678, 1234567, 0, True]}) == {
        "a": ["***", "***", "***", 1234567, 0, True]
    }


def test_texts_and_keys_are_scrubbed_wherever_they_stand() -> None:
    """Everything else stays; keys that became alike are all kept."""
    secrets = secrets_of("abcdef", "ghijkl")
    value: dict[str, Any] = {
        "k": ["xabcdefx", 1, {"abcdef": None, "ghijkl": True, "***": 1.5}],
        "n": [[]],
        "ghijkl!": "ok",
    }
    assert secrets.scrub(value) == {
        "k": ["x***x", 1, {"***": None, "****": True, "*****": 1.5}],
        "n": [[]],
        "***!": "ok",
    }
    assert value["n"] is secrets.scrub(value)["n"]
    assert "xabcdefx" in value["k"]


@pytest.mark.parametrize(
    "value", ["text", "", {"a": [1, None, 2.5, True, "x", {}]}, [], None, 5, ("no", "json"), {1: 2}]
)
def test_what_holds_no_secret_is_the_very_same_object(value: Any) -> None:
    """Whether there are secrets or none."""
    assert secrets_of("abcdef").scrub(value) is value
    assert secrets_of().scrub(value) is value


def test_data_that_is_nested_without_end_is_no_crash() -> None:
    """Whoever saves it refuses it."""
    endless: list[Any] = ["abcdef"]
    endless.append(endless)
    scrubbed = secrets_of("abcdef").scrub(endless)
    assert scrubbed[0] == scrubbed[1][0] == "***"


def test_a_secret_that_is_no_utf8_is_scrubbed() -> None:
    """The environment may hold any bytes."""
    code = (
        "import base64, os; from workflows_mcp.engine.secrets import Secrets; s = Secrets(); s.values();"
        "raw = os.environb[b'WORKFLOW_SECRET_RAW']; print(s.scrub_text(base64.b64encode(raw).decode()))"
    )
    environment: dict[bytes, bytes] = {**os.environb, b"WORKFLOW_SECRET_RAW": b"\xff\xfe secret \xff"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "***\n"


def test_a_large_text_and_many_secrets_take_no_noticeable_time() -> None:
    """Every block's outputs come by here; the figure is far above what it takes, for machines that are busy."""
    secrets = secrets_of(*(base64.b64encode(bytes([number]) * (5 + number)).decode() for number in range(20)))
    text = ("2024-11-24 12:00:00 INFO worker: item 12345 done, https://example.org/a?b=c\n" * 20_000)[: 2**20]
    start = time.perf_counter()
    assert secrets.scrub_text(text) is text
    assert time.perf_counter() - start < 0.5


def test_a_secret_is_scrubbed_however_deep_it_stands() -> None:
    """A row that no store wrote may be nested deeper than a state; what holds itself comes to an end."""
    value: Any = {"key of abcdef": ["abcdef", 1, None]}
    for _ in range(400):
        value = {"in": [value]}
    scrubbed = secrets_of("abcdef").scrub(value)
    for _ in range(400):
        scrubbed = scrubbed["in"][0]
    assert scrubbed == {"key of ***": ["***", 1, None]}
    ring: list[Any] = ["innocent"]
    ring.append(ring)
    assert secrets_of("abcdef").scrub(ring) is ring
