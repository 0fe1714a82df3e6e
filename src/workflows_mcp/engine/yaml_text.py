"""YAML as plain JSON data, or an error that says where: no duplicate keys, no aliases, no surprises.

The scalars are those of YAML 1.2's core schema: `true` and `false` are the only bools, so that a country `no`, a
time `12:30` and a date stay the text that they look like. Nothing but JSON data is ever made.
"""

import re
from typing import Any, ClassVar

import yaml

__all__ = ["MAX_NODES", "YAMLTextError", "parse_yaml"]

MAX_NODES = 50_000
"""The most values, keys among them, that a text may hold: each takes up to a tenth of a millisecond to read."""


_IN_QUOTES = "; put it in quotes"


class YAMLTextError(Exception):
    """A text is not the YAML that is taken here; the message says where and why."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's stubs call it an attribute of the instance
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases: nine lines of them can stand for a billion values. Nor are there to be too many values."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            why = (
                f"more than {MAX_NODES:,} keys and values are refused; keep large data in files of their own, or inputs"
            )
            raise yaml.composer.ComposerError(None, None, why, mark)
        if self.check_event(yaml.events.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are refused: write it out", mark)
        return super().compose_node(parent, index)

    def construct_text_keys(self, node: yaml.MappingNode) -> dict[str, Any]:
        """A dict whose keys are text and stand there once."""
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _refusal(key_node, f"a key must be text, not {type(key).__name__}{_IN_QUOTES}")
            if key in result:
                raise _refusal(key_node, f"the key {key!r} stands here twice")
            result[key] = self.construct_object(value_node, deep=True)
        return result


def _refusal(node: yaml.Node, why: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, why, node.start_mark)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    try:
        return int(text, 0 if text[:2] in {"0o", "0x"} else 10)
    except ValueError:
        raise _refusal(node, "this is not a number, or has too many digits") from None


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    try:
        return float(loader.construct_scalar(node))
    except ValueError:
        raise _refusal(node, "this is not a number") from None


def _construct_unknown(_loader: _Loader, node: yaml.Node) -> Any:  # noqa: ANN401 - never returns
    raise _refusal(node, f"the tag {node.tag!r} is refused: only plain values are taken")


_MAP, _SEQ, _STR = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:str"
_NULL, _BOOL = "tag:yaml.org,2002:null", "tag:yaml.org,2002:bool"
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"

_Loader.yaml_constructors = {
    _MAP: _Loader.construct_text_keys,
    _SEQ: lambda loader, node: loader.construct_sequence(node, deep=True),
    _STR: lambda loader, node: loader.construct_scalar(node),
    _NULL: lambda _loader, _node: None,
    _BOOL: lambda loader, node: loader.construct_scalar(node).lower() == "true",
    _INT: _construct_int,
    _FLOAT: _construct_float,
    None: _construct_unknown,
}
_Loader.add_implicit_resolver(_NULL, re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(_INT, re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def _hint(error: yaml.MarkedYAMLError, text: str) -> str:
    """What to do about an error, where its cause is one that is met often."""
    if "'\\t'" in (error.problem or ""):
        return "; indent with spaces"
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines()
    if mark is not None and mark.line < len(lines) and "{{" in lines[mark.line]:
        return "; put all of a text with {{ … }} in quotes"
    return ""


def parse_yaml(text: str) -> Any:  # noqa: ANN401 - JSON data
    """The plain data that a text stands for.

    Raises:
        YAMLTextError: It is no YAML, or uses duplicate keys, keys that are no text, aliases or tags, is nested too
            deeply, or holds more than `MAX_NODES` keys and values.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that makes even less
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem, hint = error.problem or "this is not YAML", _hint(error, text)
        raise YAMLTextError(f"{where}{problem.removesuffix(_IN_QUOTES) if hint else problem}{hint}") from None
    except yaml.YAMLError:
        raise YAMLTextError("it holds characters that YAML does not allow") from None
    except RecursionError:
        raise YAMLTextError("it is nested too deeply") from None
