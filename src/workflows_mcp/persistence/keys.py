"""The keys that checkpoints are sealed with: what they are, and where they come from.

Nothing here shows a key: not a message, a `repr`, a traceback or the context of an error.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import shlex
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from workflows_mcp.errors import StoreConfigurationError
from workflows_mcp.persistence.commands import run, words_of
from workflows_mcp.settings import Settings

__all__ = ["KEY_ID", "BrokenSealError", "Key", "KeyName", "KeyRing", "load_keys", "new_key"]

KEY_ID = "[A-Za-z0-9_.-]{1,40}"
"""What a key's id looks like, as a regular expression."""

_KEY_BYTES = 32

_FEWEST_DIFFERENT_BYTES = 12
"""Of 32 random bytes about 30 differ; fewer than this many do by chance less often than once in 10**16 keys."""

_MOST_BYTES = 64 * 2**10
"""The most that a key file, or a key command's output, may have."""

_COMMAND_SECONDS = 30.0

_ID = re.compile(KEY_ID)
_SEPARATOR = re.compile(r"[,\n]")

_VARIABLE, _FILE, _COMMAND = (f"WORKFLOWS_ENCRYPTION_KEY{what}" for what in ("S", "_FILE", "_COMMAND"))

_FORM = "an entry is id:key, where the key is 32 random bytes in base64; make one with: workflows-mcp keys new"


class BrokenSealError(Exception):
    """What is sealed was changed, or belongs elsewhere."""


class KeyName(NamedTuple):
    """Tells a key from all others, also from others of its id, and tells nothing of what it is.

    Attributes:
        key_id: What people call it.
        fingerprint: Follows from the key itself: 16 hexadecimal digits.
    """

    key_id: str
    fingerprint: str


@dataclass(frozen=True)
class Key:
    """A key of AES-256.

    Attributes:
        key_id: What people call it.
        secret: Its 32 bytes.
    """

    key_id: str
    secret: bytes = field(repr=False)

    @cached_property
    def name(self) -> KeyName:
        """Stands beside all that is sealed with it."""
        fingerprint = hmac.new(self.secret, b"workflows-mcp fingerprint", hashlib.sha256).hexdigest()
        return KeyName(self.key_id, fingerprint[:16])

    @property
    def fingerprint(self) -> str:
        """Tells keys of one id apart, and tells nothing of the key."""
        return self.name.fingerprint

    @property
    def entry(self) -> str:
        """The key as it stands in a setting: the secret itself."""
        return f"{self.key_id}:{base64.b64encode(self.secret).decode()}"


@dataclass(frozen=True)
class KeyRing:
    """The keys of a process, the newest first: that one seals, and all of them open.

    Attributes:
        keys: At least one; no secret stands twice. An id may: two processes were each given a key of it.
        source: The setting that they come from.
    """

    keys: tuple[Key, ...]
    source: str

    @property
    def newest(self) -> Key:
        """The one that seals."""
        return self.keys[0]

    def find(self, name: KeyName) -> Key | None:
        """The key of a name; None when there is none."""
        return next((key for key in self.keys if key.name == name), None)

    def has_another(self, name: KeyName) -> bool:
        """Whether there is a key of the same id that is another one."""
        return any(key.key_id == name.key_id and key.name != name for key in self.keys)


def new_key(key_id: str | None = None) -> Key:
    """A key that nobody has seen before.

    Args:
        key_id: Its id; None: today's date and something random.

    Raises:
        ValueError: The id is not fit to be one.
    """
    if key_id is None:
        key_id = f"{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(2)}"
    if _ID.fullmatch(key_id) is None:
        raise ValueError("a key's id is 1 to 40 letters, digits, dots, hyphens and underscores")
    return Key(key_id, secrets.token_bytes(_KEY_BYTES))


def load_keys(settings: Settings) -> KeyRing | None:
    """The keys that the settings name; None when they name none.

    A key command is run, and waited for up to 30 s.

    Raises:
        StoreConfigurationError: More than one setting names keys; or they cannot be read, or are none.
    """
    given = {
        _VARIABLE: settings.encryption_keys,
        _FILE: settings.encryption_key_file,
        _COMMAND: settings.encryption_key_command,
    }
    sources = [name for name, value in given.items() if value is not None]
    if len(sources) > 1:
        raise StoreConfigurationError(f"{' and '.join(sources)} are set, and only one of them may name the keys")
    if settings.encryption_keys is not None:
        return _ring(settings.encryption_keys.get_secret_value(), _VARIABLE)
    if settings.encryption_key_file is not None:
        return _ring(_text_of(_content(settings.encryption_key_file), _FILE), _FILE)
    if settings.encryption_key_command is not None:
        return _ring(_text_of(_output(settings.encryption_key_command.get_secret_value()), _COMMAND), _COMMAND)
    return None


def _ring(text: str, source: str) -> KeyRing:
    """The keys of some text: entries with commas or line breaks between them, and comments from `#` to a line's end."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    entries = [entry.strip() for entry in _SEPARATOR.split("\n".join(lines)) if entry.strip()]
    if not entries:
        raise StoreConfigurationError(f"{source} names no key: {_FORM}")
    keys: list[Key] = []
    for number, entry in enumerate(entries, 1):
        key = _key(entry, f"entry {number} of {source}", source)
        twin = next((one for one in keys if hmac.compare_digest(one.secret, key.secret)), None)
        if twin is not None and twin.key_id == key.key_id:
            raise StoreConfigurationError(f"{source} has the key {key.key_id!r} twice; leave one of them out")
        if twin is not None:
            raise StoreConfigurationError(
                f"{source} has one key under two ids, {twin.key_id!r} and {key.key_id!r}; leave out the older one if "
                "nothing is sealed with it, or else make a new key"
            )
        keys.append(key)
    return KeyRing(tuple(keys), source)


def _key(entry: str, place: str, source: str) -> Key:
    """The key of an entry. What is no entry is not shown: it may be a key."""
    key_id, colon, encoded = entry.partition(":")
    if not colon or _ID.fullmatch(key_id) is None:
        raise StoreConfigurationError(f"{place} is none, or its id is not 1 to 40 of A-Z a-z 0-9 _ . -: {_FORM}")
    secret = _decoded(encoded.strip())
    # Outside any handler: the decoder's error must not be this one's context.
    if secret is None:
        raise StoreConfigurationError(f"{source}: the key {key_id!r} is not base64; {_FORM}")
    if len(secret) != _KEY_BYTES:
        raise StoreConfigurationError(f"{source}: the key {key_id!r} has {len(secret)} bytes; {_FORM}")
    if len(set(secret)) < _FEWEST_DIFFERENT_BYTES:
        raise StoreConfigurationError(f"{source}: the key {key_id!r} is not random; {_FORM}")
    return Key(key_id, secret)


def _decoded(encoded: str) -> bytes | None:
    """The bytes of standard or URL-safe base64; None when it is neither."""
    try:
        return base64.b64decode(encoded.translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError):
        return None


def _text_of(content: bytes, source: str) -> str:
    if len(content) > _MOST_BYTES:
        raise StoreConfigurationError(f"what {source} gives has more than {_MOST_BYTES:,} bytes: it is not keys")
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        pass  # its error holds the content, and must not be the other one's context
    raise StoreConfigurationError(f"what {source} gives is no plain text; {_FORM}")


def _content(path: Path) -> bytes:
    """The beginning of a key file, which nobody but its owner may read."""
    named = f"the key file {str(path)!r} ({_FILE})"
    problem = ""
    content = b""
    try:
        # Not blocking: a pipe that nobody writes to would be waited for.
        file = os.open(path.expanduser(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                problem = "is not a file"
            elif found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                mode = stat.S_IMODE(found.st_mode)
                problem = f"is open to others than its owner (mode {mode:04o}); run: chmod 600 {shlex.quote(str(path))}"
            elif found.st_uid not in {os.geteuid(), 0}:
                problem = "belongs to another user"
            else:
                content = os.read(file, _MOST_BYTES + 1)
        finally:
            os.close(file)
    except FileNotFoundError:
        problem = "does not exist; make one with: (umask 077; workflows-mcp keys new > FILE)"
    except RuntimeError:
        problem = "is in the home folder of a user that is not known"
    except (OSError, ValueError) as error:
        problem = f"cannot be read: {getattr(error, 'strerror', None) or 'it has no fit name'}"
    if problem:
        raise StoreConfigurationError(f"{named} {problem}")
    return content


def _output(command: str) -> bytes:
    """What a command prints. Neither that nor what it says besides is ever shown."""
    words = words_of(command)
    if not words:
        raise StoreConfigurationError(f"{_COMMAND} is no command: quotes must be closed")
    # No session of its own: a command that asks for a passphrase does so on the terminal.
    done = run(words, _COMMAND_SECONDS, _MOST_BYTES, own_session=False)
    if isinstance(done, str):
        problem = f"cannot be run: {done}"
    elif len(done.output) > _MOST_BYTES or done.code == 0:
        return done.output
    elif done.code is None:
        problem = f"was not done after {_COMMAND_SECONDS:g} s"
    else:
        problem = f"ended with exit code {done.code}"
    raise StoreConfigurationError(
        f"the command of {_COMMAND} {problem}; run it by hand to see why: what it prints is not shown"
    )
