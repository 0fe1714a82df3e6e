"""What a row holds of a state, plain or sealed, and the state that a row holds.

The columns of a sealed row that are not sealed are compared with the state when it is loaded: what the columns say is
in the state, too.
"""

import contextlib
import copy
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
    decode_guide_json,
    pack_body,
    payload_of,
)
from workflows_mcp.persistence.deltas import Linked, Step, is_base
from workflows_mcp.persistence.keys import KeyName, KeyRing, load_keys
from workflows_mcp.persistence.row_seal import CIPHER, Seal, changed, digest_key, is_known_encoding, key_of
from workflows_mcp.persistence.rows import metadata_of, shown_text
from workflows_mcp.persistence.statements import PLAIN, VERIFIED, Loading
from workflows_mcp.persistence.unpacking import Stored, Unpacking, digest_of, is_sealed
from workflows_mcp.settings import Settings

if TYPE_CHECKING:
    from workflows_mcp.persistence.sealing import Sealer

__all__ = ["REFUSED_PROMPT", "SEALED_PROMPT", "RowCodec", "open_codec"]

SEALED_PROMPT = "(sealed, and not to be opened with the keys of this process)"
"""Stands in a listing for a prompt that cannot be opened."""

REFUSED_PROMPT = "(not shown: the checkpoint is not sealed, and WORKFLOWS_ENCRYPTION is 'required')"
"""Stands in a listing for a prompt that anybody may have written who can write to the database."""

_COMPARED = ("workflow_name", "created_at", "run_id", "status", "parent_checkpoint_id", "current_wave_index")
_CHAINED = ("state_digest", "base_checkpoint_id", "base_digest")

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


class Opened(NamedTuple):
    """What is in a row that is to be sealed anew, or not at all any more.

    Attributes:
        body: What its payload is to hold.
        columns: Those of its row, as far as they are needed; the prompt is what it says.
    """

    body: Body
    columns: dict[str, Any]

    @property
    def digest(self) -> str | None:
        """That of the state, as it is to be."""
        found: str | None = self.columns["state_digest"]
        return found


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
        unpacking: Unpacks them.
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
        self.unpacking = Unpacking(keys, self._seal, takes_plain=takes_plain)
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
        body = pack_body(plain) if frame is None else (ZSTD_DELTA, frame)
        filled = {
            **columns,
            "state_digest": digest_of(plain, self._secret) if is_base(columns["run_id"], plain) else None,
            "base_checkpoint_id": None if base is None else base.checkpoint_id,
            "base_digest": None if base is None else base.digest,
            "full_bytes": len(plain),
        }
        filled.update(self._held(body, filled, seals=self.seals))
        if step is not None:
            step.make(filled, plain)
        return filled

    def _stored_as(
        self, body: Body, columns: Mapping[str, Any], *, seals: bool, name: KeyName | None = None
    ) -> dict[str, Any]:
        """The columns in which a payload's body is stored, and those that name states, given the others."""
        return {**self._held(body, columns, seals=seals, name=name), **{name: columns[name] for name in _CHAINED}}

    def _held(
        self, body: Body, columns: Mapping[str, Any], *, seals: bool, name: KeyName | None = None
    ) -> dict[str, Any]:
        """The columns that hold a payload's body, sealed or plain, given the others; the prompt is plain."""
        if seals:
            assert self._seal is not None
            return self._seal.columns(columns, body, name)
        data = payload_of(body)
        prompt = columns["pause_prompt"]
        return {"encoding": body[0], "payload": data, "stored_bytes": len(data), "pause_prompt": prompt}

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
        body = self.unpacking.body(row)
        if body[0] == GUIDE_JSON:
            if type(created_at) is int:
                created_at = float(created_at)  # SQLite's RETURNING gives a REAL that is a whole number as an INTEGER
            columns = {"checkpoint_id": checkpoint_id, "workflow_name": workflow_name, "created_at": created_at}
            state = decode_guide_json(body[1], checkpoint_id, {} if is_sealed(encoding) else columns)
            found = Contents(body, None, state)
        else:
            plain = self.unpacking.plain(row, body)
            found = Contents(body, plain, decode_state(plain, checkpoint_id))
        if is_sealed(encoding):
            self._require_opened_same(row, found.state)
        return found

    def taking_plain(self) -> "RowCodec":
        """The same that takes what is not sealed, too, for work that does not show it to anybody."""
        if self.takes_plain:
            return self
        taking = copy.copy(self)
        taking.takes_plain = True
        taking.unpacking = Unpacking(self.keys, self._seal, takes_plain=True)
        return taking

    def refuses(self, row: Sequence[Any]) -> bool:
        """Whether a row that `loading` has loaded is not to be loaded, whatever it holds, since it is not sealed."""
        return not self.takes_plain and not is_sealed(row[-2])

    def plain(self, row: Sequence[Any]) -> bytes | bytearray | None:
        """The plain JSON in such a row, which is not parsed unless it is sealed; None: it is the guide's.

        Raises:
            CheckpointKeyError: It is sealed, and cannot be opened with these keys.
            CheckpointDecodeError: It is damaged, newer than this version, or its columns were changed.
        """
        if is_sealed(row[-2]):
            return self.contents(row).plain
        body = self.unpacking.body(row)
        return None if body[0] == GUIDE_JSON else self.unpacking.plain(row, body)

    def require_same(self, row: Sequence[Any], state: CheckpointState) -> None:
        """Make sure that the columns of a row that `VERIFIED` has loaded say what its state says.

        Raises:
            CheckpointDecodeError: They do not.
        """
        stored = Stored.of(row)
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
        if not is_sealed(found.encoding):
            return found if self.takes_plain else replace(found, pause_prompt=REFUSED_PROMPT)
        prompt = None
        if self._seal is not None:
            place = (found.checkpoint_id, found.schema_version, found.encoding)
            prompt = self._seal.open_prompt(found.pause_prompt, *place)
        return replace(found, pause_prompt=SEALED_PROMPT if prompt is None else prompt)

    def opened(self, row: Sequence[Any], *, decrypt: bool) -> Opened:
        """What is in a row that is to be sealed with the newest key, or not sealed any more.

        Args:
            row: As `VERIFIED` has loaded it, and `Chains` completed.
            decrypt: Whether it is to be plain.

        Raises:
            CheckpointKeyError: It cannot be opened.
            CheckpointDecodeError: It is damaged, or its columns do not say what its payload says, so that it could
                not be loaded afterwards.
        """
        body, plain, state = self._compared(row)
        columns = {**Stored.of(row)._asdict(), "pause_prompt": columns_of(state)["pause_prompt"]}
        if plain is not None and columns["state_digest"] is not None:
            columns["state_digest"] = digest_of(plain, None if decrypt else self._secret)
        return Opened(body if decrypt else _self_contained(body, state), columns)

    def resealed(self, opened: Opened, base_digest: str | None, *, decrypt: bool) -> dict[str, Any]:
        """What changes in its row.

        Args:
            opened: What is in it.
            base_digest: That of its base, which may have been sealed anew, too.
            decrypt: Whether it is to be plain.
        """
        return self._stored_as(opened.body, {**opened.columns, "base_digest": base_digest}, seals=not decrypt)

    def rebased(self, row: Sequence[Any], base_digest: str | None) -> dict[str, Any]:
        """What changes in the row of a delta when its base gets another digest. It is not unpacked.

        Args:
            row: As `VERIFIED` has loaded it.
            base_digest: That of its base.

        Raises:
            CheckpointKeyError: It is sealed, and cannot be opened with these keys.
            CheckpointDecodeError: Its seal is broken.
        """
        stored = Stored.of(row)
        changed = {**_kept(stored), "base_digest": base_digest}
        if is_sealed(stored.encoding):
            columns = {**stored._asdict(), "base_digest": base_digest, "pause_prompt": None}
            sealed = self._stored_as(self.unpacking.body(row), columns, seals=True, name=key_of(stored.encoding))
            changed |= {name: sealed[name] for name in ("payload", "stored_bytes")}
        return changed

    def made_whole(self, row: Sequence[Any], *, lets_go: bool) -> dict[str, Any]:
        """What changes in the row of a delta, so that it needs its base no more. What is sealed stays sealed.

        One that is damaged itself stays so, and lets go of its base all the same. A sealed one is made of nothing but
        what its seal names: it would be believed from then on. What was saved by a newer version stays what it was:
        nothing is parsed, and what this version cannot unpack it does not take for damaged.

        Args:
            row: As `VERIFIED` has loaded it, and `Chains` completed.
            lets_go: Whether one that only lacks another one does so, too, and can never be unpacked again.

        Raises:
            CheckpointKeyError: It, or one that it needs, cannot be opened with these keys.
            CheckpointDecodeError: One that it needs is damaged or missing, and it does not let go; or it, or one that
                it needs, is of an encoding that this version does not know.
        """
        stored = Stored.of(row)
        try:
            plain = self.unpacking.plain(row, self.unpacking.body(row), compares=is_sealed(stored.encoding))
        except CheckpointKeyError:
            raise
        except CheckpointDecodeError as error:
            is_known = all(is_known_encoding(one[-2]) for one in (row, *(row.links if isinstance(row, Linked) else ())))
            if not is_known or (error.link is not None and not lets_go):
                error.link = error.link or shown_text(stored.checkpoint_id)
                raise
            # Its seal covers the digest of the base. Alone, that refers to nothing.
            return {**_kept(stored), "base_checkpoint_id": None}
        prompt, name = stored.pause_prompt, key_of(stored.encoding)
        if name is not None and prompt is not None:
            assert self._seal is not None
            prompt = self._seal.open_prompt(prompt, stored.checkpoint_id, stored.schema_version, stored.encoding)
        columns = {**stored._asdict(), "pause_prompt": prompt, "base_checkpoint_id": None, "base_digest": None}
        return self._stored_as(pack_body(bytes(plain)), columns, seals=name is not None, name=name)

    def _compared(self, row: Sequence[Any]) -> Contents:
        """What a row holds, compared with its columns."""
        found = self.contents(row)
        self.require_same(row, found.state)
        return found

    def _require_opened_same(self, row: Sequence[Any], state: CheckpointState) -> None:
        """The same as `require_same` of a sealed row."""
        assert self._seal is not None
        stored = Stored.of(row)
        prompt = stored.pause_prompt
        if prompt is not None:
            prompt = self._seal.open_prompt(prompt, stored.checkpoint_id, stored.schema_version, stored.encoding)
            if prompt is None:
                raise changed(stored.checkpoint_id, "pause_prompt")
        _require_same(stored, state, prompt)


def _kept(stored: Stored) -> dict[str, Any]:
    """What `rewriting` changes, as it is."""
    names = ("encoding", "payload", "pause_prompt", *_CHAINED)
    # SQLite holds any type in any column.
    size = len(stored.payload) if isinstance(stored.payload, bytes | str) else 0
    return {**{name: getattr(stored, name) for name in names}, "stored_bytes": size}


def _require_plain_same(stored: Stored, state: CheckpointState) -> None:
    """The same of a row that is not sealed."""
    _require_same(stored, state, stored.pause_prompt)
    if stored.schema_version != state.schema_version:
        raise changed(stored.checkpoint_id, "schema_version")


def _require_same(stored: Stored, state: CheckpointState, prompt: object) -> None:
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
