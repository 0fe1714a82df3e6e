"""The plain JSON in a row: its payload is opened or checked, and unpacked by means of what it is a delta of."""

import base64
import contextlib
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, NamedTuple

from workflows_mcp.engine.state_json import IMPORTING, damaged
from workflows_mcp.errors import CheckpointDecodeError, CheckpointKeyError
from workflows_mcp.persistence.codec import ZSTD_DELTA, Body, body_of, unpack
from workflows_mcp.persistence.deltas import Fault, Linked
from workflows_mcp.persistence.keys import KeyRing
from workflows_mcp.persistence.row_seal import CIPHER, Seal, SealPlace, digest_key, key_missing, key_of
from workflows_mcp.persistence.rows import shown_text

__all__ = ["Stored", "Unpacking", "digest_of", "is_sealed"]

_DIGEST_BYTES = 12
"""Of a digest, so many bytes: it tells apart the states of one id alone, and takes up a place in an index."""

_BEFORE_PLACE, _BEHIND_PLACE = 9, -5
"""Where in a row the columns end, and go on, between which `PLACED` has its own."""


class Stored(NamedTuple):
    """What `VERIFIED` loads of a row."""

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

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Stored":
        """What is so of a row that `VERIFIED` has loaded, or `PLACED`, which has more columns in between."""
        return cls._make((*row[:_BEFORE_PLACE], *row[_BEHIND_PLACE:]))


class Unpacking:
    """Unpacks rows.

    Args:
        keys: Those that open; None: nothing is opened.
        seal: Opens.
        takes_plain: Whether what is not sealed is unpacked.
    """

    def __init__(self, keys: KeyRing | None, seal: Seal | None, *, takes_plain: bool) -> None:
        self._keys = keys
        self._seal = seal
        self._takes_plain = takes_plain

    def body(self, row: Sequence[Any]) -> Body:
        """What is in a row's payload besides its seal or its checksum."""
        checkpoint_id, *_, encoding, payload = row
        if is_sealed(encoding):
            if self._seal is None:
                raise key_missing(checkpoint_id, encoding, None)
            return self._seal.open(payload, _place(Stored.of(row)))
        if not self._takes_plain:
            raise _not_sealed(checkpoint_id)
        return body_of(encoding, payload, checkpoint_id)

    def plain(self, row: Sequence[Any], body: Body, *, compares: bool = False) -> bytes | bytearray:
        """The plain JSON of a row's body.

        Args:
            row: As `body` takes it, and `Chains` completed it.
            body: What is in it.
            compares: Whether its base is taken for no more than what it has the digest of. A seal covers the digest of
                the base alone, and somebody may have put something plain in the place of what that is of.
        """
        if body[0] != ZSTD_DELTA or not isinstance(row, Linked):
            return unpack(body, row[0])
        if row.own is not None:
            return row.own.plain
        if row.fault is not None:
            raise _alone(row, row.fault)
        plain, _, links = row.nearest()
        with contextlib.suppress(CheckpointDecodeError):
            return self._unchecked(row, body, plain, links, compares=compares)
        if row.plains is not None:
            for link in row.links:
                row.plains.forget(link)
        plain, base, links = row.nearest()
        for link in links:
            plain, base = self._link(row, link, plain, base), link
        if compares:
            self._require_base(row, plain)
        return self._link(row, row, plain, base)

    def _unchecked(
        self,
        row: Linked,
        body: Body,
        plain: bytes | bytearray | None,
        links: Sequence[Sequence[Any]],
        *,
        compares: bool,
    ) -> bytes | bytearray:
        """The same, told by the row's own checksum alone to be right; what is wrong otherwise is not told."""
        for link in links:
            plain = unpack(self.body(link), link[0], plain, is_link=True)
            if row.plains is not None:
                row.plains.keep(link, plain)
        if compares:
            self._require_base(row, plain)
        return unpack(body, row[0], plain)

    def _link(
        self, row: Linked, link: Sequence[Any], plain: bytes | bytearray | None, base: Sequence[Any] | None
    ) -> bytes | bytearray:
        """The plain JSON of what a row needs, or its own, given that of its base, and the row of that if it was read.

        Raises:
            CheckpointDecodeError: It cannot be had; the error names the one of all that is broken.
        """
        body: Body | None = None
        try:
            body = self.body(link)
            return unpack(body, link[0], plain)
        except CheckpointDecodeError as error:
            failure, broken = error, link
        if body is not None and base is not None and plain is not None and not self._is_of(base, plain):
            failure, broken = _another(base), base
        raise failure if broken is row else _not_unpacked(row, failure, broken[0])

    def _require_base(self, row: Linked, plain: bytes | bytearray | None) -> None:
        """Make sure that some plain JSON is that of a row's base, unless it is in memory, where it was found by it.

        Raises:
            CheckpointDecodeError: It is not.
        """
        if row.links and plain is not None and not self._is_of(row.links[-1], plain):
            raise _not_unpacked(row, _another(row.links[-1]), row.links[-1][0])

    def _is_of(self, row: Sequence[Any], plain: bytes | bytearray) -> bool:
        """Whether a row's digest is that of some plain JSON, as far as that can be told with these keys."""
        name = key_of(row[-2])
        if name is None:
            return bool(row[-5] == digest_of(plain, None))
        key = None if self._keys is None else self._keys.find(name)
        return key is None or row[-5] == digest_of(plain, digest_key(key))


def digest_of(plain: bytes | bytearray, secret: bytes | None) -> str:
    """Tells the states of one id apart. Of what is sealed it is keyed, so that nobody can try out what it is of.

    The secret is that of the key which the row itself is sealed with: who has another one learns nothing.
    """
    digest = hmac.digest(secret, plain, "sha256") if secret else hashlib.sha256(plain).digest()
    return base64.urlsafe_b64encode(digest[:_DIGEST_BYTES]).decode()


def _another(row: Sequence[Any]) -> CheckpointDecodeError:
    """The error for a row whose digest is not that of what it holds."""
    return damaged(shown_text(row[0]), "it holds another state than the one that was saved")


def _not_unpacked(row: Sequence[Any], failure: CheckpointDecodeError, link: str) -> CheckpointDecodeError:
    """The error for a row that cannot be unpacked without another one, with which something is the matter."""
    told = f"checkpoint {row[0]!r} is stored as a delta, and cannot be unpacked without another one: {failure}"
    error = type(failure)(told)
    error.link, error.reason = shown_text(link), failure.reason
    return error


def _alone(row: Sequence[Any], fault: Fault) -> CheckpointDecodeError:
    """The error for a row that lacks one that it needs."""
    error = CheckpointDecodeError(
        f"checkpoint {row[0]!r} is stored as a delta, and cannot be unpacked without {fault.link!r}, which "
        f"{fault.why}; restore {fault.link!r} from a backup ({IMPORTING}), or delete it together with those that need "
        "it"
    )
    error.link, error.reason = shown_text(fault.link), fault.why
    return error


def _place(stored: Stored) -> SealPlace:
    """What a row's seal binds its payload to."""
    return SealPlace(
        stored.checkpoint_id, stored.schema_version, stored.encoding, stored.state_digest, stored.base_digest
    )


def is_sealed(encoding: object) -> bool:
    """Whether a row with this encoding is sealed."""
    return type(encoding) is str and encoding.startswith(CIPHER)


def _not_sealed(checkpoint_id: object) -> CheckpointKeyError:
    return CheckpointKeyError(
        f"checkpoint {checkpoint_id!r} is not sealed, and WORKFLOWS_ENCRYPTION is 'required'; if it is older than your "
        "keys, seal it with: WORKFLOWS_ENCRYPTION=auto workflows-mcp checkpoints rekey"
    )
