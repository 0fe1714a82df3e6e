"""Text of values that may be nested deeper than Python goes, as what another program saved may be."""

from collections.abc import Callable

__all__ = ["TOO_DEEP", "text_if_shallow"]

TOO_DEEP = "(nested too deeply to be shown)"
"""Stands where there would be such a value."""


def text_if_shallow(make: Callable[[], str]) -> str:
    """What makes text of a value has made; of one that is nested too deeply for it, words that say so."""
    try:
        return make()
    except RecursionError:
        return TOO_DEEP
