"""What a client must show to be served. No message, log or `repr` shows a token."""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from pathlib import Path

from workflows_mcp.errors import StoreConfigurationError
from workflows_mcp.settings import Settings

__all__ = ["Tokens", "load_tokens"]

_VARIABLE, _FILE = "WORKFLOWS_HTTP_TOKEN", "WORKFLOWS_HTTP_TOKEN_FILE"

_SHORTEST = 32
"""Characters: 128 random bits in hexadecimal. A token is guessed over the network, or in what is derived from it."""

_FEWEST_DIFFERENT = 8
"""Of 32 random hexadecimal digits about 14 differ; fewer than this many do once in 10**7 tokens."""

_MOST_BYTES = 64 * 2**10

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""What may stand behind `Bearer`, by RFC 6750."""

_MAKE = 'make one with: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'


@dataclass(frozen=True)
class Tokens:
    """The tokens that are taken, any of them.

    Attributes:
        secrets: The tokens themselves, in the order in which they were given; none: everybody is served.
    """

    secrets: tuple[str, ...] = field(repr=False)

    def __bool__(self) -> bool:
        return bool(self.secrets)

    def accept(self, shown: bytes) -> bool:
        """Whether it is one of them; takes as long for one that is nearly right as for any other."""
        digest = hashlib.sha256(shown).digest()
        found = [hmac.compare_digest(digest, hashlib.sha256(one.encode()).digest()) for one in self.secrets]
        return any(found)


def load_tokens(settings: Settings) -> Tokens:
    """The tokens that the settings name.

    Raises:
        StoreConfigurationError: Both settings name some; a file cannot be read; or one is none, or easily guessed.
    """
    given, file = settings.http_token, settings.http_token_file
    if given is not None and file is not None:
        raise StoreConfigurationError(f"{_VARIABLE} and {_FILE} are both set; unset one of them")
    if given is not None:
        return _tokens(given.get_secret_value(), _VARIABLE)
    return Tokens(()) if file is None else _tokens(_read(file), _FILE)


def _tokens(text: str, source: str) -> Tokens:
    found = [entry.strip() for line in text.splitlines() for entry in line.split(",") if entry.strip()]
    if not found:
        raise StoreConfigurationError(f"{source} holds no token; {_MAKE}")
    for number, token in enumerate(found, 1):
        problem = _what_is_wrong(token)
        if problem is not None:
            raise StoreConfigurationError(f"token {number} of {source} {problem}; {_MAKE}")
    return Tokens(tuple(dict.fromkeys(found)))


def _what_is_wrong(token: str) -> str | None:
    if _TOKEN.fullmatch(token) is None:
        return "has a character that no token has: it takes letters, digits and . _ ~ + / -"
    if len(token) < _SHORTEST:
        return f"has {len(token)} characters, and {_SHORTEST} are the fewest that cannot be guessed"
    return "is not random" if len(set(token)) < _FEWEST_DIFFERENT else None


def _read(file: Path) -> str:
    named = f"the file {str(file)!r} of {_FILE}"
    problem, content = "", b""
    try:
        with file.expanduser().open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
    except (OSError, RuntimeError, ValueError) as error:
        problem = (
            f"cannot be read ({getattr(error, 'strerror', None) or 'it has no fit name'}); check its path and mode"
        )
    if len(content) > _MOST_BYTES:
        problem = f"has more than {_MOST_BYTES:,} bytes: it holds no token"
    elif not problem and not content.isascii():
        problem = "is no plain text"
    if problem:
        raise StoreConfigurationError(f"{named} {problem}")
    return content.decode("ascii")
