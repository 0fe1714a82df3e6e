"""What a row holds of a state, plain or sealed, and the state that a row holds.

With keys, the payload and the prompt are sealed, and the row's encoding becomes `aes-256-gcm:KEY-ID:INNER`, where
`INNER` is the encoding of what is inside, without its checksum. The seal covers the checkpoint's id, its schema
version and the encoding, so that nothing opens elsewhere; the other columns are compared with the state when it is
loaded. A sealed prompt is text: `sealed:` and base64.
"""

import base64
import binascii
import contextlib
import json
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from workflows_mcp.engine.checkpoint import STATE_SCHEMA_VERSION, CheckpointMetadata, CheckpointState
from workflows_mcp.engine.contract import columns_of
from workflows_mcp.engine.state_json import damaged, encode_state
from workflows_mcp.errors import (
    CheckpointDecodeError,
    CheckpointKeyError,
    CheckpointStoreError,
    StoreConfigurationError,
)
from workflows_mcp.persistence.codec import (
    GUIDE_JSON,
    JSON,
    ZSTD,
    Body,
    body_of,
    decode_body,
    decode_payload,
    pack,
    pack_body,
    payload_of,
)
from workflows_mcp.persistence.keys import KEY_ID, KeyRing, load_keys
from workflows_mcp.persistence.rows import metadata_of, shown_text
from workflows_mcp.persistence.statements import PLAIN, VERIFIED, Loading
from workflows_mcp.settings import Settings

if TYPE_CHECKING:
    from workflows_mcp.persistence.sealing import Sealer

__all__ = ["SEALED_PROMPT", "RowCodec", "key_id_of", "open_codec", "sealed_with"]

SEALED_PROMPT = "(sealed, and not to be opened with the keys of this process)"
"""Stands in a listing for a prompt that cannot be opened."""

_CIPHER = "aes-256-gcm:"
_SEALED = re.compile(rf"{_CIPHER}({KEY_ID}):({JSON}|{ZSTD}|{GUIDE_JSON})")
_PROMPT = "sealed:"

_COMPARED = ("workflow_name", "created_at", "run_id", "status", "parent_checkpoint_id", "current_wave_index")
_compared_of = operator.attrgetter(*_COMPARED)


class _Stored(NamedTuple):
    """A row as `VERIFIED` loads it."""

    checkpoint_id: Any
    workflow_name: Any
    created_at: Any
    run_id: Any
    status: Any
    parent_checkpoint_id: Any
    current_wave_index: Any
    schema_version: Any
    pause_prompt: Any
    encoding: Any
    payload: Any


def key_id_of(encoding: object) -> str | None:
    """The id of the key that a row with this encoding is sealed with; None: it is not sealed."""
    found = _SEALED.fullmatch(encoding) if isinstance(encoding, str) else None
    return None if found is None else found[1]


def sealed_with(key_id: str) -> str:
    """How the encodings of rows begin that are sealed with a key."""
    return f"{_CIPHER}{key_id}:"


def open_codec(settings: Settings) -> "RowCodec":
    """The codec that the settings ask for.

    Raises:
        StoreConfigurationError: The keys cannot be read or used, or there must be some and are none.
    """
    keys = load_keys(settings)
    if keys is None:
        if settings.encryption == "required":
            raise StoreConfigurationError(
                "WORKFLOWS_ENCRYPTION is 'required', and there are no keys: set WORKFLOWS_ENCRYPTION_KEYS, _KEY_FILE "
                "or _KEY_COMMAND (docs/encryption.md)"
            )
        return RowCodec(may_save_beside_sealed=settings.encryption == "off")
    try:
        from workflows_mcp.persistence.sealing import Sealer
    except ImportError:
        problem = "needs the package cryptography: pip install 'workflows-mcp[encryption]'"
    else:
        sealer = Sealer(keys.newest)
        return RowCodec(
            keys,
            sealer,
            seals=settings.encryption != "off",
            takes_plain=settings.encryption != "required",
        )
    raise StoreConfigurationError(f"{keys.source} is set, and sealing checkpoints {problem}")


class RowCodec:
    """Makes rows' payloads of states, and states of rows.

    Args:
        keys: Those that open; None: nothing is sealed, nor opened.
        sealer: Seals with the newest of them.
        seals: Whether what is saved is sealed.
        takes_plain: Whether what is not sealed is loaded.
        may_save_beside_sealed: Whether plain rows may be saved where others are sealed.

    Attributes:
        loading: How rows are loaded that this takes.
    """

    def __init__(
        self,
        keys: KeyRing | None = None,
        sealer: "Sealer | None" = None,
        *,
        seals: bool = False,
        takes_plain: bool = True,
        may_save_beside_sealed: bool = True,
    ) -> None:
        self.keys = keys
        self.seals = seals
        self.takes_plain = takes_plain
        self.may_save_beside_sealed = may_save_beside_sealed
        self.loading: Loading = PLAIN if keys is None else VERIFIED
        self._sealer = sealer

    def fill(self, columns: dict[str, Any], plain: bytes) -> None:
        """Add the payload of a state's plain JSON, its encoding and its sizes to its columns; seal the prompt."""
        if self.seals:
            columns.update(self._sealed(columns, pack_body(plain)), full_bytes=len(plain))
            return
        encoding, data, full_bytes = pack(plain)
        columns.update(full_bytes=full_bytes, stored_bytes=len(data), encoding=encoding, payload=data)

    def state(self, row: Sequence[Any]) -> CheckpointState:
        """The state of a row that `loading` has loaded.

        Raises:
            CheckpointKeyError: It is sealed, and cannot be opened with these keys.
            CheckpointDecodeError: It is damaged, newer than this version, or its columns were changed.
        """
        checkpoint_id, workflow_name, created_at, *_, encoding, payload = row
        if type(created_at) is int:
            created_at = float(created_at)  # SQLite's RETURNING gives a REAL that is a whole number as an INTEGER
        if type(encoding) is str and encoding.startswith(_CIPHER):
            return self._opened(row)[1]
        if not self.takes_plain:
            raise _not_sealed(checkpoint_id)
        return decode_payload(
            encoding, payload, checkpoint_id=checkpoint_id, workflow_name=workflow_name, created_at=created_at
        )

    def metadata(self, row: Sequence[Any]) -> CheckpointMetadata:
        """The metadata of a row of a listing. A prompt that cannot be opened is `SEALED_PROMPT`."""
        found = metadata_of(row)
        if found.pause_prompt is None or not found.encoding.startswith(_CIPHER):
            return found
        prompt = self._prompt(found.checkpoint_id, found.schema_version, found.encoding, found.pause_prompt)
        return replace(found, pause_prompt=SEALED_PROMPT if prompt is None else prompt)

    def resealed(self, row: Sequence[Any], *, decrypt: bool = False) -> dict[str, Any]:
        """What changes in a row that is sealed with the newest key, or not sealed any more.

        Args:
            row: As `loading` has loaded it.
            decrypt: Whether it is to be plain.

        Raises:
            CheckpointKeyError: It cannot be opened.
            CheckpointDecodeError: It is damaged, or its columns do not say what its payload says, so that it could
                not be loaded afterwards.
        """
        stored = _Stored._make(row)
        if type(stored.encoding) is str and stored.encoding.startswith(_CIPHER):
            body, state = self._opened(row)
        elif self.takes_plain:
            body, state = _plain(stored)
        else:
            raise _not_sealed(stored.checkpoint_id)
        prompt = columns_of(state)["pause_prompt"]
        columns = {**stored._asdict(), "pause_prompt": prompt}
        if not decrypt:
            return self._sealed(columns, _self_contained(body, state))
        data = payload_of(body)
        return {"encoding": body.encoding, "payload": data, "stored_bytes": len(data), "pause_prompt": prompt}

    def _sealed(self, columns: Mapping[str, Any], body: Body) -> dict[str, Any]:
        """The columns of a row that differ when it is sealed."""
        assert self._sealer is not None
        encoding = f"{_CIPHER}{self._sealer.key.key_id}:{body.encoding}"
        place = (columns["checkpoint_id"], columns["schema_version"], encoding)
        data = self._sealer.seal(body.data, _associated("payload", *place))
        prompt = columns["pause_prompt"]
        if prompt is not None:
            sealed = self._sealer.seal(prompt.encode(), _associated("pause_prompt", *place))
            prompt = f"{_PROMPT}{base64.b64encode(sealed).decode()}"
        return {"encoding": encoding, "payload": data, "stored_bytes": len(data), "pause_prompt": prompt}

    def _opened(self, row: Sequence[Any]) -> tuple[Body, CheckpointState]:
        """What a sealed row holds, compared with its columns."""
        if self.keys is None:
            raise self._keyless(row[0], row[-2])
        stored = _Stored._make(row)
        checkpoint_id, encoding = stored.checkpoint_id, stored.encoding
        if type(stored.payload) is not bytes:
            raise damaged(shown_text(checkpoint_id), f"it is not bytes, but {type(stored.payload).__name__}")
        body = Body(encoding.rpartition(":")[2], self._open(stored, "payload", stored.payload))
        state = decode_body(body, checkpoint_id, {})
        prompt = stored.pause_prompt
        if prompt is not None:
            prompt = self._prompt(checkpoint_id, stored.schema_version, encoding, prompt)
            if prompt is None:
                raise _changed(checkpoint_id, "pause_prompt")
        _require_same(stored, state, prompt)
        return body, state

    def _open(self, stored: _Stored, field: str, sealed: bytes) -> bytes:
        """Open what is sealed in a row, or say why that cannot be."""
        from workflows_mcp.persistence.sealing import BrokenSealError, WrongKeyError

        assert self.keys is not None
        assert self._sealer is not None
        checkpoint_id, encoding = stored.checkpoint_id, stored.encoding
        found = _SEALED.fullmatch(encoding)
        if found is None:
            raise damaged(checkpoint_id, "its encoding is unknown to this version of workflows-mcp")
        key = self.keys.find(found[1])
        if key is None:
            raise self._keyless(checkpoint_id, encoding)
        problem = ""
        try:
            return self._sealer.open(key, sealed, _associated(field, checkpoint_id, stored.schema_version, encoding))
        except WrongKeyError:
            problem = "key"
        except BrokenSealError:
            # Is it the schema version alone that says otherwise than it did?
            for version in range(1, STATE_SCHEMA_VERSION + 1):
                with contextlib.suppress(BrokenSealError):
                    self._sealer.open(key, sealed, _associated(field, checkpoint_id, version, encoding))
                    problem = "schema_version"
        if problem == "key":
            raise CheckpointKeyError(
                f"checkpoint {checkpoint_id!r} was sealed with another key of the id {key.key_id!r} than the one in "
                f"{self.keys.source}, or the beginning of its payload is damaged; compare the fingerprints of keys: "
                "workflows-mcp keys list"
            )
        if problem:
            raise _changed(checkpoint_id, problem)
        raise damaged(checkpoint_id, "its seal is broken: it was changed, or it belongs to another checkpoint")

    def _prompt(self, checkpoint_id: object, schema_version: object, encoding: str, prompt: object) -> str | None:
        """The plain prompt of a sealed one; None when it cannot be opened."""
        found = _SEALED.fullmatch(encoding)
        key = self.keys.find(found[1]) if self.keys is not None and found is not None else None
        if key is None or self._sealer is None or not isinstance(prompt, str) or not prompt.startswith(_PROMPT):
            return None
        from workflows_mcp.persistence.sealing import BrokenSealError, WrongKeyError

        with contextlib.suppress(binascii.Error, ValueError, BrokenSealError, WrongKeyError):
            sealed = base64.b64decode(prompt[len(_PROMPT) :], validate=True)
            place = _associated("pause_prompt", checkpoint_id, schema_version, encoding)
            return self._sealer.open(key, sealed, place).decode()
        return None

    def _keyless(self, checkpoint_id: object, encoding: object) -> CheckpointStoreError:
        key_id = key_id_of(encoding)
        if key_id is None:
            return damaged(shown_text(checkpoint_id), "its encoding is unknown to this version of workflows-mcp")
        where = "WORKFLOWS_ENCRYPTION_KEYS" if self.keys is None else self.keys.source
        return CheckpointKeyError(
            f"checkpoint {checkpoint_id!r} is sealed with the key {key_id!r}, which this process does not have: add it "
            f"to {where} (docs/encryption.md)"
        )


def _associated(field: str, checkpoint_id: object, schema_version: object, encoding: str) -> bytes:
    """What a seal covers besides what it hides. Only the id, which stands last, may hold any character."""
    return f"{field}\0{encoding}\0{schema_version}\0{checkpoint_id}".encode("utf-8", "surrogatepass")


def _plain(stored: _Stored) -> tuple[Body, CheckpointState]:
    """What a plain row holds, compared with its columns."""
    checkpoint_id = stored.checkpoint_id
    state = decode_payload(
        stored.encoding,
        stored.payload,
        checkpoint_id=checkpoint_id,
        workflow_name=stored.workflow_name,
        created_at=stored.created_at,
    )
    _require_same(stored, state, stored.pause_prompt)
    if stored.schema_version != state.schema_version:
        raise _changed(checkpoint_id, "schema_version")
    return body_of(stored.encoding, stored.payload, checkpoint_id), state


def _require_same(stored: _Stored, state: CheckpointState, prompt: object) -> None:
    """Raise an error unless the columns say what the state says."""
    found, expected = _compared_of(stored), _compared_of(state)
    if found != expected:
        differing = (name for name, one, other in zip(_COMPARED, found, expected, strict=True) if one != other)
        raise _changed(stored.checkpoint_id, next(differing))
    if prompt != state.pause_prompt and prompt != columns_of(state)["pause_prompt"]:
        raise _changed(stored.checkpoint_id, "pause_prompt")


def _self_contained(body: Body, state: CheckpointState) -> Body:
    """The same with all fields of the state inside: a payload of the guide's leaves some to columns, to be changed.

    One that holds what this package would refuse to save stays the guide's JSON.
    """
    if body.encoding != GUIDE_JSON:
        return body
    with contextlib.suppress(CheckpointStoreError, ValueError):
        return pack_body(encode_state(state))
    columns = {name: getattr(state, name) for name in ("checkpoint_id", "workflow_name", "created_at")}
    return Body(GUIDE_JSON, json.dumps({**json.loads(body.data), **columns}).encode())


def _not_sealed(checkpoint_id: object) -> CheckpointDecodeError:
    return CheckpointDecodeError(
        f"checkpoint {checkpoint_id!r} is not sealed, and WORKFLOWS_ENCRYPTION is 'required'; if it is older than your "
        "keys, seal it with: WORKFLOWS_ENCRYPTION=auto workflows-mcp checkpoints rekey"
    )


def _changed(checkpoint_id: object, column: str) -> CheckpointDecodeError:
    return damaged(shown_text(checkpoint_id), f"its column {column} says something else than what was saved")
