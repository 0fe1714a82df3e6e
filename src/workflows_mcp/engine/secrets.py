"""Secrets: where they come from, and how they are kept out of everything that is saved or shown."""

import base64
import contextlib
import json
import re
import shlex
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, quote_plus

from workflows_mcp.engine.plain_json import MAX_DEPTH
from workflows_mcp.errors import SecretError
from workflows_mcp.settings import SECRET_PREFIX, read_secrets

__all__ = ["MIN_LINE", "MIN_SECRET", "Secrets"]

MIN_SECRET = 6
"""Characters that a secret has at least: shorter ones stand in innocent texts, too."""

MIN_LINE = 12
"""Characters that a line of a secret has at least to be scrubbed where it stands alone."""

_MASK = "***"
_MOST_DIGITS = 20  # of a number that a state can hold
_BASE64_LINE = 76  # where the command `base64` breaks its lines
_ESCAPED = re.compile("%[0-9A-F]{2}")


class Secrets:
    """The secrets of this process; any thread may use it at any time.

    Every value that was read once is scrubbed as long as this object lives: what was made with an older one may
    come back after it was replaced.

    Args:
        source: Gives the secrets by name; None: `read_secrets`, which reads the environment.
    """

    def __init__(self, source: Callable[[], Mapping[str, str]] | None = None) -> None:
        self._source = read_secrets if source is None else source
        self._lock = threading.Lock()
        self._remembered: frozenset[str] = frozenset()
        # What is looked for, and all forms of secrets that hold it: where it is not, none of them is.
        self._forms: dict[str, list[str]] = {}
        self._numbers: frozenset[int] = frozenset()

    def values(self) -> Mapping[str, str]:
        """The secrets by name, read now, and remembered.

        Raises:
            SecretError: One is shorter than `MIN_SECRET`, white space around it not counted. All others are
                remembered.
        """
        values = dict(self._source())
        short = sorted(name for name, value in values.items() if len(value.strip()) < MIN_SECRET)
        self._remember(frozenset(value for name, value in values.items() if name not in short))
        if short:
            raise SecretError(
                f"{', '.join(SECRET_PREFIX + name for name in short)}: a secret must have at least {MIN_SECRET} "
                "characters, or it could not be told from other text; choose a longer one"
            )
        return MappingProxyType(values)

    def scrub(self, value: Any) -> Any:  # noqa: ANN401 - JSON data
        """The value with `***` for every remembered secret in its texts and keys.

        A secret is found as it is, escaped as in a URL, in JSON or in a shell's quotes, and in base64, also as a
        part of a longer text that was encoded. Of one with several lines, each longer line is found on its own. One
        that consists of digits is found as a number, too.

        Args:
            value: JSON data, nested as deeply as it may be.

        Returns:
            The very same object when there is no secret in it; else a new one, which shares what has none. Keys that
            became alike get further stars.
        """
        return self._scrub(value, 1) if self._forms else value

    def scrub_now(self, value: Any) -> Any:  # noqa: ANN401 - JSON data
        """`scrub`, with all secrets that there are now: what was saved before one was a secret may hold it."""
        with contextlib.suppress(SecretError):  # those that are fit to be secrets are known by now
            self.values()
        return self.scrub(value)

    def scrub_text(self, text: str) -> str:
        """The text with `***` for every remembered secret in it; see `scrub`."""
        # One regular expression of all forms would be tried at every character: on 1 MiB with 20 secrets, that takes
        # three times as long as looking for one after the other, and finds only one of two that overlap.
        found = [forms for needle, forms in self._forms.items() if needle in text]
        return _masked(text, {form for forms in found for form in forms}) if found else text

    def _remember(self, values: frozenset[str]) -> None:
        if values <= self._remembered:
            return
        with self._lock:
            self._remembered |= values
            self._forms = _by_needle({form for value in self._remembered for form in _forms_of(value)})
            digits = (value.strip() for value in self._remembered)
            self._numbers = frozenset(
                int(value) for value in digits if value.isdecimal() and len(value) <= _MOST_DIGITS
            )

    def _scrub(self, value: Any, depth: int) -> Any:  # noqa: ANN401 - JSON data
        if isinstance(value, str):
            return self.scrub_text(value)
        if depth > MAX_DEPTH:
            return self._scrub_deep(value)
        if isinstance(value, list):
            items = [self._scrub(item, depth + 1) for item in value]
            return value if all(map(_is, items, value)) else items
        if isinstance(value, dict):
            return self._scrub_dict(value, depth)
        if self._numbers and type(value) in {int, float} and value in self._numbers:
            return _MASK
        return value

    def _scrub_dict(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        scrubbed: dict[Any, Any] = {}
        is_same = True
        for key, item in value.items():
            clean_key, clean_item = self._scrub(key, MAX_DEPTH + 1), self._scrub(item, depth + 1)
            is_same = is_same and clean_key is key and clean_item is item
            while clean_key in scrubbed:
                clean_key += "*"
            scrubbed[clean_key] = clean_item
        return value if is_same else scrubbed

    def _scrub_deep(self, value: Any) -> Any:  # noqa: ANN401 - JSON data
        """The same without recursion; what is nested in itself, which is no JSON, comes to an end, too."""
        whole, is_same = [value], True
        waiting: list[Any] = [whole]
        copies: dict[int, Any] = {}
        while waiting:
            holder = waiting.pop()
            for place, one in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
                if id(one) in copies:
                    clean = copies[id(one)]
                elif isinstance(one, dict | list):
                    clean = copies[id(one)] = self._with_clean_keys(one) if isinstance(one, dict) else list(one)
                    is_same = is_same and (isinstance(one, list) or all(map(_is, clean, one)))
                    waiting.append(clean)
                else:
                    clean = self._scrub(one, 1)
                    is_same = is_same and clean is one
                holder[place] = clean
        return value if is_same else whole[0]

    def _with_clean_keys(self, value: dict[Any, Any]) -> dict[Any, Any]:
        clean: dict[Any, Any] = {}
        for key, item in value.items():
            name = self._scrub(key, 1)
            while name in clean:
                name += "*"
            clean[name] = item
        return clean


def _is(one: object, other: object) -> bool:
    return one is other


def _by_needle(forms: Iterable[str]) -> dict[str, list[str]]:
    """The forms by the shortest one that each holds, which may be itself."""
    grouped: dict[str, list[str]] = {}
    for form in sorted(forms, key=len):
        needle = next((needle for needle in grouped if needle in form), form)
        grouped.setdefault(needle, []).append(form)
    return grouped


def _masked(text: str, found: Iterable[str]) -> str:
    spans = sorted(span for form in found for span in _spans_of(form, text))
    pieces, end = [], 0
    for start, stop in spans:
        if start >= end:
            pieces += [text[end:start], _MASK]
        end = max(end, stop)
    return "".join([*pieces, text[end:]])


def _spans_of(form: str, text: str) -> Iterator[tuple[int, int]]:
    start = text.find(form)
    while start >= 0:
        yield start, start + len(form)
        start = text.find(form, start + 1)


def _forms_of(secret: str) -> Iterator[str]:
    """All that a secret may look like."""
    values = {secret, secret.strip()}
    for value in values:
        yield from _written(value)
        yield from _encoded(value)
    for line in secret.splitlines():
        if len(line.strip()) >= MIN_LINE:
            yield from _written(line.strip())


def _written(value: str) -> Iterator[str]:
    """The value as it is, and escaped."""
    yield value
    yield shlex.quote(f"{value} ")[1:-2]  # the blank makes it quote
    for ensure_ascii in (True, False):
        yield json.dumps(value, ensure_ascii=ensure_ascii)[1:-1]
    raw = _bytes_of(value)
    for escaped in (quote(raw, safe=""), quote(raw, safe="/"), quote_plus(raw)):
        yield escaped
        yield _ESCAPED.sub(lambda match: match[0].lower(), escaped)


def _encoded(value: str) -> Iterator[str]:
    """The value in base64, on its own and as a part of a longer text that was encoded."""
    raw = _bytes_of(value)
    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        alone = encode(raw).decode()
        yield alone
        yield alone.rstrip("=")
        lines = [alone[start : start + _BASE64_LINE] for start in range(0, len(alone), _BASE64_LINE)]
        yield from (line for line in lines if len(line) >= MIN_LINE)
        for before in range(3):
            # A character holds six bits; those at both ends hold bits of the neighbours, too.
            first, last = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
            yield encode(bytes(before) + raw).decode()[first:last]


def _bytes_of(value: str) -> bytes:
    # The environment may hold what is no UTF-8.
    return value.encode(errors="surrogateescape")
