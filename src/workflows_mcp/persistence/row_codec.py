"""What a row holds of a state, plain or sealed, and the state that a row holds.

The columns of a sealed row that are not sealed are compared with the state when it is loaded: what the columns say is
in the state, too.
"""

import contextlib
import json
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from workflows_mcp.documents import document
from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState
from workflows_mcp.engine.contract import columns_of
from workflows_mcp.engine.state_json import encode_state
from workflows_mcp.errors import CheckpointKeyError, CheckpointStoreError, StoreConfigurationError
from workflows_mcp.persistence.codec import (
    GUIDE_JSON,
    Body,
    body_of,
    decode_body,
    decode_payload,
    pack,
    pack_body,
    payload_of,
    unpack,
)
from workflows_mcp.persistence.keys import KeyRing, load_keys
from workflows_mcp.persistence.row_seal import CIPHER, Seal, changed, key_missing
from workflows_mcp.persistence.rows import metadata_of
from workflows_mcp.persistence.statements import PLAIN, VERIFIED, Loading
from workflows_mcp.settings import Settings

if TYPE_CHECKING:
    from workflows_mcp.persistence.sealing import Sealer

__all__ = ["REFUSED_PROMPT", "SEALED_PROMPT", "RowCodec", "open_codec"]

SEALED_PROMPT = "(sealed, and not to be opened with the keys of this process)"
"""Stands in a listing for a prompt that cannot be opened."""

REFUSED_PROMPT = "(not shown: the checkpoint is not sealed, and WORKFLOWS_ENCRYPTION is 'required')"
"""Stands in a listing for a prompt that anybody may have written who can write to the database."""

_SELF_CONTAINED = {"state_digest": None, "base_checkpoint_id": None, "base_digest": None}
"""The columns of a row that is no delta, nor the base of one."""

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
                f"or _KEY_COMMAND ({document('encryption')})"
            )
        return RowCodec(may_save_beside_sealed=settings.encryption == "off")
    from workflows_mcp.persistence.sealing import Sealer  # 24 ms, for those who have keys

    return RowCodec(
        keys,
        Sealer(keys.newest),
        seals=settings.encryption != "off",
        takes_plain=settings.encryption != "required",
    )


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
        self._seal = None if keys is None or sealer is None else Seal(keys, sealer)

    def fill(self, columns: dict[str, Any], plain: bytes) -> None:
        """Add the payload of a state's plain JSON, its encoding and its sizes to its columns; seal the prompt."""
        columns.update(_SELF_CONTAINED)
        if self.seals:
            assert self._seal is not None
            columns.update(self._seal.columns(columns, pack_body(plain)), full_bytes=len(plain))
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
        if _is_sealed(encoding):
            return self._opened(row)[1]
        if not self.takes_plain:
            raise _not_sealed(checkpoint_id)
        return decode_payload(
            encoding, payload, checkpoint_id=checkpoint_id, workflow_name=workflow_name, created_at=created_at
        )

    def refuses(self, row: Sequence[Any]) -> bool:
        """Whether a row that `loading` has loaded is not to be loaded, whatever it holds, since it is not sealed."""
        return not self.takes_plain and not _is_sealed(row[-2])

    def plain(self, row: Sequence[Any]) -> bytes | bytearray:
        """The plain JSON in a row that `loading` has loaded; it is not parsed unless it is sealed.

        Raises:
            CheckpointKeyError: It is sealed, and cannot be opened with these keys.
            CheckpointDecodeError: It is damaged, the guide's, newer than this version, or its columns were changed.
        """
        checkpoint_id, *_, encoding, payload = row
        if _is_sealed(encoding):
            return unpack(self._opened(row)[0], checkpoint_id)
        if not self.takes_plain:
            raise _not_sealed(checkpoint_id)
        return unpack(body_of(encoding, payload, checkpoint_id), checkpoint_id)

    def require_same(self, row: Sequence[Any], state: CheckpointState) -> None:
        """Make sure that the columns of a row that `VERIFIED` has loaded say what its state says.

        Raises:
            CheckpointDecodeError: They do not.
        """
        stored = _Stored._make(row)
        # Those of a sealed one were compared when it was opened.
        if not (type(stored.encoding) is str and stored.encoding.startswith(CIPHER)):
            _require_plain_same(stored, state)

    def metadata(self, row: Sequence[Any]) -> CheckpointMetadata:
        """The metadata of a row of a listing.

        A prompt that cannot be opened is `SEALED_PROMPT`, and one that is not to be believed is `REFUSED_PROMPT`.
        """
        found = metadata_of(row)
        if found.pause_prompt is None:
            return found
        if not _is_sealed(found.encoding):
            return found if self.takes_plain else replace(found, pause_prompt=REFUSED_PROMPT)
        prompt = None
        if self._seal is not None:
            place = (found.checkpoint_id, found.schema_version, found.encoding)
            prompt = self._seal.open_prompt(found.pause_prompt, *place)
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
        if _is_sealed(stored.encoding):
            body, state = self._opened(row)
        elif self.takes_plain:
            body, state = _plain(stored)
        else:
            raise _not_sealed(stored.checkpoint_id)
        prompt = columns_of(state)["pause_prompt"]
        columns = {**stored._asdict(), "pause_prompt": prompt}
        if not decrypt:
            assert self._seal is not None
            return self._seal.columns(columns, _self_contained(body, state))
        data = payload_of(body)
        return {"encoding": body[0], "payload": data, "stored_bytes": len(data), "pause_prompt": prompt}

    def _opened(self, row: Sequence[Any]) -> tuple[Body, CheckpointState]:
        """What a sealed row holds, compared with its columns."""
        if self._seal is None:
            raise key_missing(row[0], row[-2], None)
        stored = _Stored._make(row)
        checkpoint_id, prompt = stored.checkpoint_id, stored.pause_prompt
        place = (checkpoint_id, stored.schema_version, stored.encoding)
        body = self._seal.open(stored.payload, *place)
        state = decode_body(body, checkpoint_id)
        if prompt is not None:
            prompt = self._seal.open_prompt(prompt, *place)
            if prompt is None:
                raise changed(checkpoint_id, "pause_prompt")
        _require_same(stored, state, prompt)
        return body, state


def _is_sealed(encoding: object) -> bool:
    return type(encoding) is str and encoding.startswith(CIPHER)


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
    _require_plain_same(stored, state)
    return body_of(stored.encoding, stored.payload, checkpoint_id), state


def _require_plain_same(stored: _Stored, state: CheckpointState) -> None:
    """The same of a row that is not sealed."""
    _require_same(stored, state, stored.pause_prompt)
    if stored.schema_version != state.schema_version:
        raise changed(stored.checkpoint_id, "schema_version")


def _require_same(stored: _Stored, state: CheckpointState, prompt: object) -> None:
    """Raise an error unless the columns say what the state says."""
    found, expected = _compared_of(stored), _compared_of(state)
    if found != expected:
        differing = (name for name, one, other in zip(_COMPARED, found, expected, strict=True) if one != other)
        raise changed(stored.checkpoint_id, next(differing))
    if prompt != state.pause_prompt and prompt != columns_of(state)["pause_prompt"]:
        raise changed(stored.checkpoint_id, "pause_prompt")


def _self_contained(body: Body, state: CheckpointState) -> Body:
    """The same with all fields of the state inside: a payload of the guide's leaves some to columns, to be changed.

    One that holds what this package would refuse to save stays the guide's JSON.
    """
    if body[0] != GUIDE_JSON:
        return body
    with contextlib.suppress(CheckpointStoreError, ValueError):
        return pack_body(encode_state(state))
    columns = {name: getattr(state, name) for name in ("checkpoint_id", "workflow_name", "created_at")}
    return GUIDE_JSON, json.dumps({**json.loads(body[1]), **columns}).encode()


def _not_sealed(checkpoint_id: object) -> CheckpointKeyError:
    return CheckpointKeyError(
        f"checkpoint {checkpoint_id!r} is not sealed, and WORKFLOWS_ENCRYPTION is 'required'; if it is older than your "
        "keys, seal it with: WORKFLOWS_ENCRYPTION=auto workflows-mcp checkpoints rekey"
    )
