"""What it means when there is no encrypted connection to PostgreSQL: by OpenSSL's codes, never by a text."""

import ssl

from workflows_mcp.errors import StoreConfigurationError, StoreUnavailableError
from workflows_mcp.persistence.dialects.base import Failure

__all__ = ["explain_tls"]

_OTHER_NAME, _OUT_OF_DATE, _REVOKED = {62, 64}, {9, 10}, 23
"""OpenSSL's X509_V_ERR_: a mismatch of the host's name or address; not yet valid, expired; revoked."""

_REPEATS_WITHOUT_TLS = 3
"""A server that stops says nothing, either, when it is asked for TLS."""


def explain_tls(cause: BaseException, description: str) -> Failure | None:
    """Say what an error means, if it is about encryption.

    Args:
        cause: The driver's.
        description: Names the database in messages.
    """
    if isinstance(cause, ssl.SSLError):
        return Failure(StoreConfigurationError(f"{description} {_broken(cause)}"))
    if type(cause) is ConnectionError:
        # The driver's own, without a number: the handshake was not even begun.
        error = StoreUnavailableError(
            f"{description} does not answer with TLS, which the sslmode of the URL asks for; switch it on at the "
            "server (ssl = on) or, on a network that you trust, ask for less"
        )
        return Failure(error, retriable=True, most_repeats=_REPEATS_WITHOUT_TLS)
    return None


def _broken(error: ssl.SSLError) -> str:
    code = getattr(error, "verify_code", None)
    if code is None:
        return (
            "broke off the TLS handshake; check whether it asks for a client's certificate (sslcert, sslkey), and "
            "which versions of TLS both allow"
        )
    if code in _OTHER_NAME:
        return (
            "shows a certificate for another name; use the host name that it is made for, or sslmode=verify-ca, which "
            "does not look at the name"
        )
    if code in _OUT_OF_DATE:
        return "shows a certificate that is not valid yet, or no longer; renew it, and check this machine's clock"
    if code == _REVOKED:
        return "shows a certificate that was revoked (sslcrl); give the server a new one"
    return "shows a certificate that nobody signed who is trusted here; name the authority's file with sslrootcert"
