"""`--gpus N` on one machine: start N copies of this command, pass signals on, and answer with one exit code."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 20.0
"""How long the others may take to leave after one process failed."""


def is_child() -> bool:
    """Whether this process was started as one of several, by `launch` or `torchrun`."""
    return "RANK" in os.environ


def must_launch(processes: int) -> bool:
    """Whether this process is the one to start `processes` others, not one of them."""
    return processes > 1 and not is_child()


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `adaflow ARGUMENTS` in `processes` processes and wait for them.

    Returns:
        The exit code of rank 0, or where that is 0 that of the first other process that did not end well.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    package_home = str(Path(__file__).parents[2])
    threads = max((os.cpu_count() or 1) // processes, 1)
    children = [
        subprocess.Popen(
            # -P: a numpy.py in the current folder must not stand in for the library.
            [sys.executable, "-P", "-m", "adaflow", *arguments],
            env={
                "OMP_NUM_THREADS": str(threads),
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, [package_home, os.environ.get("PYTHONPATH")])),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
            # Groups of their own: a Ctrl-C at the terminal reaches them once, through us, and not twice.
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        for rank in range(processes)
    ]

    def forward(number: int, frame: object) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    previous = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        return _wait(children)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for child in children:
            if child.poll() is None:
                child.kill()


def _end_with_parent() -> None:
    """Ask Linux for a SIGTERM when the launcher dies, however it dies."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(children: list[subprocess.Popen[bytes]]) -> int:
    code, deadline, asked = 0, None, False
    while [child for child in children if child.poll() is None]:  # asks every one of them
        for child in children:
            if code == 0 and child.returncode:
                code, deadline = child.returncode, time.monotonic() + GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            if asked:
                break
            for child in children:
                if child.poll() is None:
                    child.terminate()
            asked, deadline = True, time.monotonic() + GRACE_SECONDS
        time.sleep(0.05)
    # The first process speaks for all: the others may stumble over its leaving.
    code = children[0].returncode or code or next((child.returncode for child in children if child.returncode), 0)
    return code if code >= 0 else 128 - code
