"""Sizes, as people read them."""

__all__ = ["brief_bytes", "shown_bytes"]


def shown_bytes(count: int) -> str:
    """A number of bytes for people to read."""
    for unit, one in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= one:
            return f"{count / one:,.1f} {unit}"
    return f"{count:,} bytes"


def brief_bytes(count: int) -> str:
    """The same for a column of a table."""
    return shown_bytes(count).replace("bytes", "B")
