"""Reward functions with the faults that real ones have. A response says what to do; every other one scores its length."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rlkit.errors import TransientRewardError
from rlkit.types import Sample

HELD: list[bytearray] = []
ASKED: list[str] = []


def score(response: str) -> float:
    match response:
        case "hang":
            time.sleep(3600)
        case "regex":
            re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter's lock, and never ends
        case "raise":
            raise ValueError("three\nlines\nlong")
        case "nan":
            return float("nan")
        case "text":
            return "good"  # type: ignore[return-value]
        case "exit":
            sys.exit(3)
        case "os._exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "real-time signal":
            os.kill(os.getpid(), signal.SIGRTMIN + 6)
        case "kill group":
            os.killpg(0, signal.SIGKILL)
        case "kill parent":
            os.kill(os.getppid(), signal.SIGKILL)
        case "kill parent and wait":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(3600)
        case "memory":
            HELD.append(bytearray(1 << 30))
        case "print":
            print("noise")
        case "half a pair":
            raise ValueError("no such mood: \ud83d")
        case "busy":
            raise TransientRewardError("busy")
    return float(len(response))


def leaks(response: str) -> float:
    """32 MiB with each answer."""
    HELD.append(bytearray(32 << 20))
    return 1.0


def forks(response: str) -> float:
    """Leaves a process behind that has a session of its own and outlives this one, and says which."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)
    if response == "hang":
        time.sleep(3600)
    return float(child.pid)


def comes_back_twice(response: str) -> float:
    os.fork()
    return float(len(response))


def draws(response: str) -> float:
    return random.random()


def draws_from_numpy(response: str) -> float:
    import numpy as np

    return float(np.random.random())


def draws_from_torch(response: str) -> float:
    import torch

    return float(torch.rand(()))


def meets(response: str) -> float:
    """Which process this is, once three have been given an answer; a response is a file in the folder where they meet."""
    place = Path(response).parent
    (place / str(os.getpid())).touch()
    while len(list(place.iterdir())) < 3:
        time.sleep(0.01)
    return float(os.getpid())


def busy_once(response: str) -> float:
    ASKED.append(response)
    if ASKED.count(response) == 1:
        raise TransientRewardError("busy", retry_after_s=0.001)
    return 1.0


def sleeps(response: str) -> float:
    time.sleep(0.05)
    return 1.0


def waits_or_hangs(response: str) -> float:
    """A response is the seconds that it takes; words that hang begin with "hang"."""
    time.sleep(3600 if response.startswith("hang") else float(response.split()[0]))
    return 1.0


def first_of_a_set(response: str) -> float:
    return float(next(iter({f"{number} {response}" for number in range(1000)})).split()[0])


def wrong_length(samples: Sequence[Sample]) -> list[float]:
    return [1.0 for _ in samples][1:]


def of_a_batch(samples: Sequence[Sample]) -> list[float]:
    return [float(len(samples)) for _ in samples]


def needs_column(completions: list[str], level: list[int]) -> list[float]:
    return [0.0 for _ in completions]
