"""What it means when there is no encrypted connection to PostgreSQL: by OpenSSL's codes, never by a text."""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from workflows_mcp.errors import StoreConfigurationError, StoreUnavailableError
from workflows_mcp.persistence.dialects.errors import Failure

__all__ = ["check_files", "explain_tls"]

_AUTHORITIES = ("sslrootcert", "sslcrl")

_DEFAULT_AUTHORITIES = Path("~/.postgresql/root.crt")

_OTHER_NAME, _OUT_OF_DATE, _REVOKED = {62, 64}, {9, 10}, 23
"""OpenSSL's X509_V_ERR_: a mismatch of the host's name or address; not yet valid, expired; revoked."""

_REPEATS_WITHOUT_TLS = 3
"""A server that stops says nothing, either, when it is asked for TLS."""


def check_files(options: Mapping[str, str]) -> None:
    """Make sure that the files which a URL names for TLS can be used: the driver's errors would not say which one.

    Args:
        options: The keys of the URL's query.

    Raises:
        StoreConfigurationError: One cannot.
    """
    verifies = options.get("sslmode", os.environ.get("PGSSLMODE", "")).startswith("verify-")
    if verifies and not options.get("sslrootcert", os.environ.get("PGSSLROOTCERT")):
        try:
            is_there = _DEFAULT_AUTHORITIES.expanduser().exists()
        except RuntimeError:  # no home folder
            is_there = False
        if not is_there:
            raise StoreConfigurationError(
                "sslmode=verify-ca and verify-full need to know whom to trust; name the file with the authority's "
                "certificate by sslrootcert in the URL (the system's own is often /etc/ssl/certs/ca-certificates.crt)"
            )
    for key in (*_AUTHORITIES, "sslcert", "sslkey"):
        if key in options and (problem := _problem(key, options)):
            raise StoreConfigurationError(f"the file {options[key]!r} of {key} in the URL {problem}; name another one")


def _problem(key: str, options: Mapping[str, str]) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        with Path(options[key]).open("rb"):
            pass
        if key in _AUTHORITIES:
            context.load_verify_locations(options[key])
        elif key == "sslcert" and "sslkey" in options:
            context.load_cert_chain(options[key], options["sslkey"], lambda: options.get("sslpassword", ""))
    except ssl.SSLError:
        if key in _AUTHORITIES:
            return "is no PEM file with a certificate, or a list of those that were revoked"
        return "does not go with that of sslkey: both are PEM files, and sslpassword opens the key"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


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
