"""What a row holds of a state, plain or sealed, and the state that a row holds.

The columns of a sealed row that are not sealed are compared with the state when it is loaded: what the columns say is
in the state, too.
"""

import base64
import contextlib
import copy
import hashlib
import hmac
import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from workflows_mcp.documents import document
from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState
from workflows_mcp.engine.contract import columns_of
from workflows_mcp.engine.state_json import decode_state, encode_state
from workflows_mcp.errors import (
    CheckpointDecodeError,
    CheckpointKeyError,
    CheckpointStoreError,
    StoreConfigurationError,
)
from workflows_mcp.persistence.codec import (
    GUIDE_JSON,
    ZSTD_DELTA,
    Body,
    body_of,
    decode_guide_json,
    pack_body,
    payload_of,
    unpack,
)
from workflows_mcp.persistence.deltas import Linked, Step, is_base
from workflows_mcp.persistence.keys import KeyRing, load_keys
from workflows_mcp.persistence.row_seal import CIPHER, Seal, SealPlace, changed, digest_key, key_missing
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

_COMPARED = ("workflow_name", "created_at", "run_id", "status", "parent_checkpoint_id", "current_wave_index")
_DIGEST_BYTES = 12
"""Of a digest, so many bytes: it tells apart the states of one id alone, and takes up a place in an index."""

_compared_of = operator.attrgetter(*_COMPARED)


class Contents(NamedTuple):
    """What is in a row.

    Attributes:
        body: What its payload holds.
        plain: The state's plain JSON; None: it is the guide's, which may leave fields out.
        state: The state.
    """

    body: Body
    plain: bytes | bytearray | None
    state: CheckpointState


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
    state_digest: Any
    base_checkpoint_id: Any
    base_digest: Any
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
        self._secret = digest_key(keys.newest) if keys is not None and seals else None

    def filled(self, columns: Mapping[str, Any], plain: bytes, step: Step | None = None) -> dict[str, Any]:
        """A state's columns with its payload, and all that goes with it; the prompt is sealed.

        Args:
            columns: Those of the state.
            plain: Its plain JSON.
            step: What it may be a delta of; None: nothing.
        """
        frame = None if step is None else step.delta(plain)
        base = None if step is None or frame is None else step.base
        filled = {
            **columns,
            "state_digest": self._digest(plain) if is_base(columns["run_id"], plain) else None,
            "base_checkpoint_id": None if base is None else base.checkpoint_id,
            "base_digest": None if base is None else base.digest,
            "full_bytes": len(plain),
        }
        body = pack_body(plain) if frame is None else (ZSTD_DELTA, frame)
        filled.update(self._stored_as(body, filled, seals=self.seals))
        if step is not None:
            step.make(filled, plain)
        return filled

    def _stored_as(self, body: Body, columns: Mapping[str, Any], *, seals: bool) -> dict[str, Any]:
        """The columns in which a payload's body is stored, sealed or plain, given the others; the prompt is plain."""
        if seals:
            assert self._seal is not None
            kept = {name: columns[name] for name in ("base_checkpoint_id", "base_digest")}
            return {**self._seal.columns(columns, body), **kept}
        data = payload_of(body)
        kept = {name: columns[name] for name in ("pause_prompt", "base_checkpoint_id", "base_digest")}
        return {"encoding": body[0], "payload": data, "stored_bytes": len(data), **kept}

    def _digest(self, plain: bytes) -> str:
        """Tells the states of one id apart. Of what is sealed it is keyed, so that nobody can try out what it is of."""
        digest = hmac.digest(self._secret, plain, "sha256") if self._secret else hashlib.sha256(plain).digest()
        return base64.urlsafe_b64encode(digest[:_DIGEST_BYTES]).decode()

    def state(self, row: Sequence[Any]) -> CheckpointState:
        """The state of a row that `loading` has loaded, and `Chains` completed.

        Raises:
            CheckpointKeyError: It is sealed, and cannot be opened with these keys.
            CheckpointDecodeError: It is damaged, newer than this version, or its columns were changed.
        """
        return self.contents(row).state

    def contents(self, row: Sequence[Any]) -> Contents:
        """All that is in such a row's payload; see `state`."""
        checkpoint_id, workflow_name, created_at, *_, encoding, _ = row
        body = self._body(row)
        if body[0] == GUIDE_JSON:
            if type(created_at) is int:
                created_at = float(created_at)  # SQLite's RETURNING gives a REAL that is a whole number as an INTEGER
            columns = {"checkpoint_id": checkpoint_id, "workflow_name": workflow_name, "created_at": created_at}
            state = decode_guide_json(body[1], checkpoint_id, {} if _is_sealed(encoding) else columns)
            found = Contents(body, None, state)
        else:
            plain = self._unpacked(row, body)
            found = Contents(body, plain, decode_state(plain, checkpoint_id))
        if _is_sealed(encoding):
            self._require_opened_same(row, found.state)
        return found

    def taking_plain(self) -> "RowCodec":
        """The same that takes what is not sealed, too, for work that does not show it to anybody."""
        if self.takes_plain:
            return self
        taking = copy.copy(self)
        taking.takes_plain = True
        return taking

    def refuses(self, row: Sequence[Any]) -> bool:
        """Whether a row that `loading` has loaded is not to be loaded, whatever it holds, since it is not sealed."""
        return not self.takes_plain and not _is_sealed(row[-2])

    def plain(self, row: Sequence[Any]) -> bytes | bytearray | None:
        """The plain JSON in such a row, which is not parsed unless it is sealed; None: it is the guide's.

        Raises:
            CheckpointKeyError: It is sealed, and cannot be opened with these keys.
            CheckpointDecodeError: It is damaged, newer than this version, or its columns were changed.
        """
        if _is_sealed(row[-2]):
            return self.contents(row).plain
        body = self._body(row)
        return None if body[0] == GUIDE_JSON else self._unpacked(row, body)

    def _body(self, row: Sequence[Any]) -> Body:
        """What is in a row's payload besides its seal or its checksum."""
        checkpoint_id, *_, encoding, payload = row
        if _is_sealed(encoding):
            if self._seal is None:
                raise key_missing(checkpoint_id, encoding, None)
            return self._seal.open(payload, _place(_Stored._make(row)))
        if not self.takes_plain:
            raise _not_sealed(checkpoint_id)
        return body_of(encoding, payload, checkpoint_id)

    def _unpacked(self, row: Sequence[Any], body: Body) -> bytes | bytearray:
        """The plain JSON of a row's body."""
        if body[0] != ZSTD_DELTA or not isinstance(row, Linked):
            return unpack(body, row[0])
        return unpack(body, row[0], self._base_of(row)) if row.own is None else row.own.plain

    def _base_of(self, row: Linked) -> bytes | bytearray | None:
        """The plain JSON of what a row is a delta of; None: it is missing."""
        plain = None if row.known is None else row.known.plain
        links, plains = row.links, row.plains
        if plains is not None:
            for place in reversed(range(len(links))):
                kept = plains.get(links[place])
                if kept is not None:
                    plain, links = kept, links[place + 1 :]
                    break
        for link in links:
            try:
                plain = unpack(self._body(link), link[0], plain)
            except CheckpointDecodeError as error:
                raise type(error)(f"checkpoint {row[0]!r} is stored as a delta of another one: {error}") from None
            if plains is not None:
                plains.keep(link, plain)
        return plain

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
        body, _, state = self._compared(row)
        columns = {**_Stored._make(row)._asdict(), "pause_prompt": columns_of(state)["pause_prompt"]}
        return self._stored_as(body if decrypt else _self_contained(body, state), columns, seals=not decrypt)

    def made_whole(self, row: Sequence[Any]) -> dict[str, Any]:
        """What changes in the row of a delta, so that it needs its base no more. What is sealed stays sealed.

        One that is damaged stays so, and lets go of its base all the same.

        Args:
            row: As `VERIFIED` has loaded it, and `Chains` completed.

        Raises:
            CheckpointKeyError: It, or one that it needs, cannot be opened with these keys.
        """
        stored = _Stored._make(row)
        alone = {"base_checkpoint_id": None, "base_digest": None}
        try:
            found = self._compared(row)
            assert found.plain is not None
        except CheckpointKeyError:
            raise
        except CheckpointDecodeError:
            kept = {name: getattr(stored, name) for name in ("encoding", "payload", "pause_prompt")}
            return {**kept, "stored_bytes": len(stored.payload), **alone}
        columns = {**stored._asdict(), "pause_prompt": columns_of(found.state)["pause_prompt"], **alone}
        return self._stored_as(pack_body(bytes(found.plain)), columns, seals=_is_sealed(stored.encoding))

    def _compared(self, row: Sequence[Any]) -> Contents:
        """What a row holds, compared with its columns."""
        found = self.contents(row)
        self.require_same(row, found.state)
        return found

    def _require_opened_same(self, row: Sequence[Any], state: CheckpointState) -> None:
        """The same as `require_same` of a sealed row."""
        assert self._seal is not None
        stored = _Stored._make(row)
        prompt = stored.pause_prompt
        if prompt is not None:
            prompt = self._seal.open_prompt(prompt, stored.checkpoint_id, stored.schema_version, stored.encoding)
            if prompt is None:
                raise changed(stored.checkpoint_id, "pause_prompt")
        _require_same(stored, state, prompt)


def _place(stored: _Stored) -> SealPlace:
    """What a row's seal binds its payload to."""
    return SealPlace(
        stored.checkpoint_id, stored.schema_version, stored.encoding, stored.state_digest, stored.base_digest
    )


def _is_sealed(encoding: object) -> bool:
    return type(encoding) is str and encoding.startswith(CIPHER)


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
