"""The seal on a row: its payload and its prompt, bound to their place.

The row's encoding tells the key, by its id and its fingerprint, and what is inside:
`aes-256-gcm:KEY-ID:FINGERPRINT:INNER`. So which key it takes is known without a look at what is sealed. The seal covers
the checkpoint's id, its schema version, the encoding and the column, so that nothing opens elsewhere; that of a payload
also its state's digest and its base's, so that a delta is never taken for one of another state. A sealed prompt is
text: `sealed:` and base64.
"""

import base64
import binascii
import contextlib
import hmac
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from workflows_mcp.documents import document
from workflows_mcp.engine.checkpoint import STATE_SCHEMA_VERSION
from workflows_mcp.engine.state_json import damaged
from workflows_mcp.errors import CheckpointDecodeError, CheckpointKeyError
from workflows_mcp.persistence.codec import GUIDE_JSON, JSON, ZSTD, ZSTD_DELTA, Body
from workflows_mcp.persistence.keys import KEY_ID, BrokenSealError, Key, KeyName, KeyRing
from workflows_mcp.persistence.rows import shown_text

if TYPE_CHECKING:
    from workflows_mcp.persistence.sealing import Sealer

__all__ = ["CIPHER", "Seal", "SealPlace", "changed", "digest_key", "is_known_encoding", "key_missing", "key_of"]

CIPHER = "aes-256-gcm:"
"""How the encodings of sealed rows begin."""

_PLAIN = (JSON, ZSTD, GUIDE_JSON, ZSTD_DELTA)
_SEALED = re.compile(rf"{CIPHER}({KEY_ID}):([0-9a-f]{{16}}):({'|'.join(_PLAIN)})")
_PROMPT = "sealed:"


class SealPlace(NamedTuple):
    """What a payload's seal is bound to: the row, and the states that the payload is of."""

    checkpoint_id: str
    schema_version: Any
    encoding: str
    state_digest: Any
    base_digest: Any


def key_of(encoding: object) -> KeyName | None:
    """The name of the key that a row with this encoding is sealed with; None: it is not sealed."""
    found = _SEALED.fullmatch(encoding) if isinstance(encoding, str) else None
    return None if found is None else KeyName(found[1], found[2])


def is_known_encoding(encoding: object) -> bool:
    """Whether a row with this encoding is one that this version can unpack, with its key; others may be newer."""
    return encoding in _PLAIN or key_of(encoding) is not None


class Seal:
    """Seals rows, and opens them; any thread may use it.

    Args:
        keys: Those that open.
        sealer: Seals with the newest of them.
    """

    def __init__(self, keys: KeyRing, sealer: "Sealer") -> None:
        self._keys = keys
        self._sealer = sealer

    def columns(self, columns: Mapping[str, Any], body: Body, name: KeyName | None = None) -> dict[str, Any]:
        """The columns of a row that differ when it is sealed.

        Args:
            columns: Those of the plain row; of the prompt, what it says.
            body: What its payload holds.
            name: Of the key, which must be there; None: the newest.
        """
        sealer, (inner, data) = self._sealer_of(name), body
        encoding = f"{CIPHER}{':'.join(sealer.key.name)}:{inner}"
        place = (columns["checkpoint_id"], columns["schema_version"], encoding)
        digests = (columns["state_digest"], columns["base_digest"])
        data = sealer.seal(data, _associated_payload(SealPlace(*place, *digests)))
        prompt = columns["pause_prompt"]
        if prompt is not None:
            sealed = sealer.seal(prompt.encode(), _associated("pause_prompt", *place))
            prompt = f"{_PROMPT}{base64.b64encode(sealed).decode()}"
        return {"encoding": encoding, "payload": data, "stored_bytes": len(data), "pause_prompt": prompt}

    def _sealer_of(self, name: KeyName | None) -> "Sealer":
        key = None if name is None else self._keys.find(name)
        return self._sealer if key is None or key == self._sealer.key else type(self._sealer)(key)

    def open(self, payload: object, place: SealPlace) -> Body:
        """What a sealed payload holds.

        Raises:
            CheckpointKeyError: It cannot be opened with these keys.
            CheckpointDecodeError: It is damaged, or belongs elsewhere.
        """
        checkpoint_id, encoding = place.checkpoint_id, place.encoding
        if type(payload) is not bytes:  # SQLite holds any type in any column
            raise damaged(shown_text(checkpoint_id), f"it is not bytes, but {type(payload).__name__}")
        name = key_of(encoding)
        key = None if name is None else self._keys.find(name)
        if key is None:
            raise key_missing(checkpoint_id, encoding, self._keys)
        with contextlib.suppress(BrokenSealError):
            return encoding.rpartition(":")[2], self._sealer.open(key, payload, _associated_payload(place))
        raise self._broken(key, payload, place)

    def open_prompt(self, prompt: object, checkpoint_id: object, schema_version: object, encoding: str) -> str | None:
        """The plain prompt of a sealed one; None when it cannot be opened."""
        name = key_of(encoding)
        key = None if name is None else self._keys.find(name)
        if key is None or not isinstance(prompt, str) or not prompt.startswith(_PROMPT):
            return None
        with contextlib.suppress(binascii.Error, ValueError, BrokenSealError):
            sealed = base64.b64decode(prompt[len(_PROMPT) :], validate=True)
            place = _associated("pause_prompt", checkpoint_id, schema_version, encoding)
            return self._sealer.open(key, sealed, place).decode()
        return None

    def _broken(self, key: Key, payload: bytes, place: SealPlace) -> CheckpointDecodeError:
        """Say what is wrong with a seal: the schema version alone, or something else."""
        for version in range(1, STATE_SCHEMA_VERSION + 1):
            with contextlib.suppress(BrokenSealError):
                self._sealer.open(key, payload, _associated_payload(place._replace(schema_version=version)))
                return changed(place.checkpoint_id, "schema_version")
        return damaged(
            shown_text(place.checkpoint_id), "its seal is broken: it was changed, or it belongs to another checkpoint"
        )


def key_missing(checkpoint_id: object, encoding: object, keys: KeyRing | None) -> CheckpointDecodeError:
    """The error for a row that no key is there for."""
    name = key_of(encoding)
    if name is None:
        return damaged(shown_text(checkpoint_id), "its encoding is unknown to this version of workflows-mcp")
    where = "WORKFLOWS_ENCRYPTION_KEYS, _KEY_FILE or _KEY_COMMAND" if keys is None else keys.source
    if keys is not None and keys.has_another(name):
        return CheckpointKeyError(
            f"checkpoint {checkpoint_id!r} is sealed with another key of the id {name.key_id!r} than the one in "
            f"{where}: add that of the fingerprint {name.fingerprint}, too "
            f"({document('encryption')})"
        )
    return CheckpointKeyError(
        f"checkpoint {checkpoint_id!r} is sealed with the key {name.key_id!r}, which this process does not have: add "
        f"it to {where} ({document('encryption')})"
    )


def changed(checkpoint_id: object, column: str) -> CheckpointDecodeError:
    """The error for a row with a column that says something else than its payload."""
    return damaged(shown_text(checkpoint_id), f"its column {column} says something else than what was saved")


def digest_key(key: Key) -> bytes:
    """The secret with which the digests of sealed states are made."""
    return hmac.digest(key.secret, b"workflows-mcp state digest 1", "sha256")


def _associated_payload(place: SealPlace) -> bytes:
    """The same for a payload. Before there were digests, its seal covered no more than that of a prompt."""
    checkpoint_id, schema_version, encoding, state_digest, base_digest = place
    if state_digest is None and base_digest is None:
        return _associated("payload", checkpoint_id, schema_version, encoding)
    return _associated(f"payload\0{state_digest}\0{base_digest}", checkpoint_id, schema_version, encoding)


def _associated(column: str, checkpoint_id: object, schema_version: object, encoding: str) -> bytes:
    """What a seal covers besides what it hides. Only the id, which stands last, may hold any character."""
    return f"{column}\0{encoding}\0{schema_version}\0{checkpoint_id}".encode("utf-8", "surrogatepass")
