"""Where tokens come from, which are taken, and what follows from them."""

from pathlib import Path
from typing import Any

import pytest
from mcp.server.request_state import InvalidRequestState, RequestStateSecurity

from tests.server.http.served import TOKEN
from workflows_mcp.errors import StoreConfigurationError
from workflows_mcp.server.http.tokens import load_tokens
from workflows_mcp.server.request_state import request_state_security
from workflows_mcp.settings import Settings, load_settings

OTHER = "another-token-Ab12Cd34Ef56Gh78Ij90"


def settings(**given: Any) -> Settings:
    """Settings as they are given, and nothing else."""
    return Settings(**given)


def test_tokens_come_from_the_environment_or_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several with commas or line breaks between them; a file as secrets are mounted, with a line break at its end."""
    assert load_tokens(load_settings()).secrets == ()
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n{OTHER}\n")
    assert load_tokens(settings(http_token_file=file)).secrets == (TOKEN, OTHER)
    monkeypatch.setenv("WORKFLOWS_HTTP_TOKEN", f" {TOKEN} ,{OTHER},{TOKEN}")
    tokens = load_tokens(load_settings())
    assert tokens.secrets == (TOKEN, OTHER)
    assert TOKEN not in repr(tokens) + repr(load_settings())


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        ("short", "has 5 characters"),
        ("a" * 64, "is not random"),
        (f"{TOKEN},word", "token 2 of WORKFLOWS_HTTP_TOKEN has 4 characters"),
        (f"{TOKEN} with spaces", "a character that no token has"),
        (f"{TOKEN}ü", "a character that no token has"),
        (" , ", "holds no token"),
    ],
)
def test_a_token_that_can_be_guessed_is_refused(token: str, problem: str) -> None:
    """With a command that makes a better one, and without showing it."""
    with pytest.raises(StoreConfigurationError, match="token_urlsafe") as caught:
        load_tokens(settings(http_token=token))
    assert problem in str(caught.value)
    assert token.strip(" ,") == "" or token not in str(caught.value)


def test_a_token_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """By its path, and without what it holds."""
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    (tmp_path / "binary").write_bytes(b"\xff" * 40)
    (tmp_path / "empty").write_text("\n")
    problems = {
        "missing": "No such file",
        ".": "Is a directory",
        "large": "more than",
        "binary": "no plain text",
        "empty": "holds no token",
    }
    for name, problem in problems.items():
        with pytest.raises(StoreConfigurationError, match=problem):
            load_tokens(settings(http_token_file=tmp_path / name))
    with pytest.raises(StoreConfigurationError, match="both set"):
        load_tokens(settings(http_token=TOKEN, http_token_file=tmp_path / "missing"))


def sealing(**given: str) -> RequestStateSecurity:
    """How a server with these settings seals."""
    return request_state_security(load_tokens(settings(**given)))


def test_servers_that_share_a_token_take_each_other_s_questions() -> None:
    """Also while one token takes another's place; a server with another token does not."""
    first = sealing(http_token=TOKEN).codec
    rotating = sealing(http_token=f"{OTHER},{TOKEN}").codec
    sealed = first.seal(b"what was asked")
    assert rotating.unseal(sealed) == b"what was asked"
    assert sealing(http_token=TOKEN).codec.unseal(sealed) == b"what was asked"
    for stranger in (sealing(http_token=OTHER), sealing(), request_state_security(None)):
        with pytest.raises(InvalidRequestState):
            stranger.codec.unseal(sealed)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTP_ALLOWED_HOSTS", "*"),
        ("HTTP_ALLOWED_HOSTS", "*.example.org"),
        ("HTTP_ALLOWED_HOSTS", "https://mcp.example.org"),
        ("HTTP_ALLOWED_HOSTS", "mcp.example.org:*"),
        ("HTTP_ALLOWED_ORIGINS", "*"),
        ("HTTP_ALLOWED_ORIGINS", "null"),
        ("HTTP_ALLOWED_ORIGINS", "inspector.example.org"),
        ("HTTP_ALLOWED_ORIGINS", "https://inspector.example.org/"),
        ("HTTP_PORT", "65536"),
        ("HTTP_MAX_BODY_MB", "0"),
        ("HTTP_GRACE_SECONDS", "-1"),
    ],
)
def test_a_setting_that_would_let_in_anybody_or_nobody_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """By its name."""
    monkeypatch.setenv(f"WORKFLOWS_{variable}", value)
    with pytest.raises(StoreConfigurationError, match=f"WORKFLOWS_{variable}: "):
        load_settings()
