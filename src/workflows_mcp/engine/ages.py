"""Ages, as people read them."""

__all__ = ["shown_age"]


def shown_age(seconds: float) -> str:
    """How long ago something was, in the largest unit of which there are two."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
