"""What is fit to be an id or a name, in every store alike."""

__all__ = ["MAX_NAME_BYTES", "check_name"]

MAX_NAME_BYTES = 512
"""The longest id or name, in UTF-8: fits the indexes of both databases, whatever it holds."""


def check_name(what: str, value: object) -> str:
    """The value, if it is fit to be an id or a name.

    Raises:
        ValueError: It is not text of 1 to `MAX_NAME_BYTES` UTF-8 bytes without U+0000.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} must be str, not {type(value).__name__}")  # noqa: TRY004 - the contract says ValueError
    if "\0" in value:
        raise ValueError(f"{what} must not hold U+0000")
    try:
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} must not hold a lone surrogate") from None
    if not 1 <= size <= MAX_NAME_BYTES:
        raise ValueError(f"{what} must have 1 to {MAX_NAME_BYTES} bytes of UTF-8, not {size}")
    return value
