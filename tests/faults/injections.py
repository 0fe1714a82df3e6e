"""Texts that would be taken for SQL, or for a part of it, if they came to stand in a statement."""

from typing import Any

__all__ = ["CURSORS", "INJECTIONS", "MARK", "NUMBER", "NUMBERS", "WRONG"]

MARK = "zqx7"
"""Is in everything that is sent as a value, and so must be in no statement."""

NUMBER = 777_712_345


INJECTIONS = [
    "{}' OR '1'='1",
    "{}'; DROP TABLE checkpoints; --",
    '{}"; DROP TABLE checkpoints; --',
    "{}') OR 1=1 --",
    "{}\\' OR 1=1 --",
    "{}' UNION SELECT * FROM checkpoints --",
    "{}'; DELETE FROM checkpoints; SELECT '",
    "{}'/**/OR/**/1=1#",
    "{}%",
    "_{}",
    "{}' OR checkpoint_id LIKE '%",
    "{}' AND pg_sleep(5) --",
    "{}'||(SELECT current_user)||'",
    "$1{}",
    ":name{}",
    "?{}",
    "%s{}",
    "%({})s",
    "{}$$; DROP TABLE checkpoints; $$",
    "{}; ATTACH DATABASE '/tmp/x' AS x",
    "{}', load_extension('x'), '",
    '{}"]',
    '{}", "x"], ["',
    "{}\\u0022]",
    "{}\\",
    "{}\n--",
    "{}\u02bc OR 1=1",
    "{}\uff07 OR 1=1",
    "{}'::text; COPY x",
    "{}\x1a",
    "{}' COLLATE NOCASE",
    "{}" + "'" * 200,
    "{{{}}}",
    "{}\u202e' --",
    "{}🙂' OR ''='",
]


TIME = 1_800_000_009.0

CURSORS: list[Any] = [
    "",
    ",",
    "1",
    "1,",
    ",a",
    "nan,a",
    "inf,a",
    "-inf,a",
    "1e999,a",
    "-1e999,a",
    "0x10,a",
    "1_8e8,a",
    "\uff11,a",
    f" {TIME} ,a",
    f"{TIME}",
    f"{TIME},",
    f"{TIME},\0",
    f"{TIME},\ud800",
    f"{TIME},a,b",
    f"{TIME},%",
    f"{TIME},'",
    "1" * 400 + ",a",
    f"{TIME}," + "x" * 1_000_000,
    b"1,a",
    1,
    1.5,
    ["1", "a"],
    ("1", "a"),
    {},
    object,
    True,
]
"""Forged, cut off, and of wrong types."""

NUMBERS: list[Any] = [
    -1,
    2**63,
    2**64,
    -(2**63),
    1.5,
    True,
    "1",
    b"1",
    [1],
    float("nan"),
    float("inf"),
    10**400,
    object,
]

WRONG: list[Any] = [b"x", "\0", 7, ["x"], {"x": 1}, "\ud800", "x" * 513, True, object]
