"""Has a command or some code run by the process beside this file that has imported everything, and is like it.

<<<<<<< HEAD
Stands in a folder on PATH as `workflows-mcp` and `pytest`, and as `python-code`, whose one argument is run. Starts in
a fiftieth of the time that a command takes, so that documents may show many.
=======
Stands in a folder on PATH as `workflows-mcp`, and as `python-code`, whose one argument is run. It imports next to
nothing, so that documents may show many commands.
>>>>>>> packaging
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path


def main() -> int:
    """Order it, with the streams, the folder and the environment of this process; returns its exit code."""
    here = Path(__file__)
    order = {
        "words": sys.argv[1:],
        "cwd": str(Path.cwd()),
        "env": dict(os.environ),
        "name": here.name,
    }
    data = json.dumps(order).encode()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # until it is known to whom they go
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(str(here.with_name("socket")))
        socket.send_fds(server, [len(data).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(data)
        with server.makefile() as answers:
            pid = int(answers.readline())
            for number in signals:
                signal.signal(number, lambda number, _: os.kill(pid, number))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            code = int(answers.readline())
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
