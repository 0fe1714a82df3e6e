"""How much memory the tests believe to be free."""

from pathlib import Path

import pytest

from tests.memory import free_bytes

GIB = 2**30


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"proc/meminfo": f"MemTotal: 9\nMemAvailable: {3 * 2**20} kB\n"}, 3 * GIB),
        (
            {
                "proc/self/cgroup": "0::/pod/one\n",
                "sys/fs/cgroup/pod/memory.max": f"{4 * GIB}\n",
                "sys/fs/cgroup/pod/memory.current": f"{3 * GIB}\n",
                "sys/fs/cgroup/pod/memory.stat": f"anon 5\ninactive_file {GIB // 2}\n",
                "sys/fs/cgroup/pod/one/memory.max": "max\n",
                "sys/fs/cgroup/pod/one/memory.current": f"{GIB}\n",
            },
            1.5 * GIB,
        ),
        (
            {
                "proc/meminfo": f"MemAvailable: {3 * 2**20} kB\n",
                "proc/self/cgroup": "4:memory:/out/of/sight\n1:cpu:/\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
            },
            GIB,
        ),
        ({}, float("inf")),
    ],
    ids=["a machine", "cgroups", "old cgroups", "not known"],
)
def test_what_is_free_is_the_least_of_what_is_left(tmp_path: Path, files: dict[str, str], free: float) -> None:
    """By the machine, by the cgroup and by each one around it."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_bytes(tmp_path) == free
