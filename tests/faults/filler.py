"""Text to fill states with."""

import functools
import random

__all__ = ["filler"]


@functools.cache
def filler(number: int, size: int) -> str:
    """Text of so many characters that is like no other number's."""
    chance = random.Random(number)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyzäß", k=chance.randint(2, 9))) for _ in range(size // 3)]
    return " ".join(words)[:size]
