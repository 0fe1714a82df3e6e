"""Sealing: AES-256-GCM, so that bytes are hidden, and neither changed nor moved without being noticed.

What is sealed is

=======  ==================================================================================================
1 byte   the version of this form
16       a salt: a key of its own is derived of the ring's key and this, by HKDF-SHA256
12       a random nonce
rest     the ciphertext, and 16 bytes that authenticate it, this header and what it is associated with
=======  ==================================================================================================

A wrong key is told from damage before anything is opened: what a row is sealed with stands in its encoding.

Random nonces are good for 2**32 messages under one key (NIST SP 800-38D, 8.3), which a busy store saves in days. So
each sealer takes a salt of its own, and another one long before that many.
"""

import functools
import itertools
import os
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from workflows_mcp.persistence.keys import BrokenSealError, Key

__all__ = ["OVERHEAD_BYTES", "Sealer"]

_VERSION = b"\x01"
_SALT, _NONCE, _TAG = 16, 12, 16
_HEADER = len(_VERSION) + _SALT

OVERHEAD_BYTES = _HEADER + _NONCE + _TAG
"""How much longer sealed bytes are than plain ones."""

_MOST_USES = 2**31
"""How often a derived key seals: half of what NIST allows, so that threads that renew it at once need no lock."""

_DERIVED_KEYS = 256
"""How many derived keys are kept for opening. To derive one again takes as long as to open 20 KB."""


class _Derived(NamedTuple):
    """A key that was derived of a ring's key and a salt.

    Attributes:
        cipher: Seals and opens with it.
        header: What all that is sealed with it begins with.
    """

    cipher: AESGCM
    header: bytes


class Sealer:
    """Seals with one key, and opens with any; any thread may use it.

    Args:
        key: The one that seals.
    """

    def __init__(self, key: Key) -> None:
        self.key = key
        self._derived = functools.lru_cache(_DERIVED_KEYS)(_derive)
        self._renew()

    def _renew(self) -> None:
        self._own = _derive(self.key, os.urandom(_SALT))
        self._uses = itertools.count(1)

    def seal(self, plain: bytes, associated: bytes) -> bytes:
        """The bytes sealed, together with what they are associated with: only who says the same opens them."""
        if next(self._uses) >= _MOST_USES:
            self._renew()
        cipher, header = self._own
        nonce = os.urandom(_NONCE)
        return b"".join((header, nonce, cipher.encrypt(nonce, plain, header + associated)))

    def open(self, key: Key, sealed: bytes, associated: bytes) -> bytes:
        """The plain bytes.

        Raises:
            BrokenSealError: They are damaged, or not what they are said to be, or another key sealed them.
        """
        if len(sealed) < OVERHEAD_BYTES or sealed[:1] != _VERSION:
            raise BrokenSealError
        cipher, header = self._derived(key, sealed[1:_HEADER])
        start = _HEADER + _NONCE
        try:
            return cipher.decrypt(sealed[_HEADER:start], sealed[start:], header + associated)
        except InvalidTag:
            raise BrokenSealError from None


def _derive(key: Key, salt: bytes) -> _Derived:
    made = HKDF(SHA256(), 32, salt, b"workflows-mcp checkpoint 1").derive(key.secret)
    return _Derived(AESGCM(made), _VERSION + salt)
