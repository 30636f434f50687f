"""How long the command line takes to say something, as medians of whole processes.

    python benchmarks/startup.py --output benchmarks/results/startup.json

Measured: a bare interpreter, `rlkit --help`, the help of every command, `rlkit plugins list`, and the same with 50 more
plugin distributions installed. The commands take turns, so that a busy moment of the machine falls on all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from rlkit.cli.command_table import COMMANDS

EXTRA_PLUGINS = 50
TARGETS_MS = {"rlkit --help, above the bare interpreter": 150.0, f"plugins list with {EXTRA_PLUGINS} more": 400.0}


def install_plugins(folder: Path, count: int) -> None:
    """Metadata of `count` distributions with one reward function each, as pip writes it, and no code."""
    for number in range(count):
        info = folder / f"acme_reward_{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: acme-reward-{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[rlkit.reward_functions]\nacme_{number} = acme_reward_{number}.plugin:reward\n"
        )


def seconds(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def measure(repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every repetition of every command."""
    rlkit = [sys.executable, "-m", "rlkit"]
    with tempfile.TemporaryDirectory(prefix="rlkit-startup-") as folder:
        plugins = Path(folder) / "plugins"
        plugins.mkdir()
        install_plugins(plugins, EXTRA_PLUGINS)
        # Compiled modules as an installed package has them, whatever this shell says, and without touching the checkout.
        usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        usual["PYTHONPYCACHEPREFIX"] = str(Path(folder) / "compiled")
        crowded = {**usual, "PYTHONPATH": str(plugins)}
        listed = subprocess.run([*rlkit, "plugins", "list"], env=crowded, capture_output=True, text=True, check=True)
        assert listed.stdout.count("acme_") == EXTRA_PLUGINS, listed.stdout
        runs: dict[str, tuple[list[str], dict[str, str]]] = {
            "bare interpreter": ([sys.executable, "-c", "pass"], usual),
            "rlkit --help": ([*rlkit, "--help"], usual),
            **{f"rlkit {entry.name} --help": ([*rlkit, entry.name, "--help"], usual) for entry in COMMANDS},
            "rlkit plugins list": ([*rlkit, "plugins", "list"], usual),
            f"rlkit plugins list, {EXTRA_PLUGINS} more": ([*rlkit, "plugins", "list"], crowded),
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(repeats + 1):
            for name, (command, environment) in runs.items():
                took = 1000 * seconds(command, environment)
                if turn:  # the first turn compiles, and fills the disk cache
                    times[name].append(took)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    times = measure(arguments.repeats)
    medians = {name: round(statistics.median(values), 1) for name, values in times.items()}
    reached = {
        "rlkit --help, above the bare interpreter": round(medians["rlkit --help"] - medians["bare interpreter"], 1),
        f"plugins list with {EXTRA_PLUGINS} more": medians[f"rlkit plugins list, {EXTRA_PLUGINS} more"],
    }
    result = {
        "what": "median milliseconds of a whole process",
        "repeats": arguments.repeats,
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("rlkit-llm", "typer", "pydantic")},
        },
        "installed_distributions": len(list(metadata.distributions())),
        "median_ms": medians,
        "fastest_ms": {name: round(min(values), 1) for name, values in times.items()},
        "targets_ms": {name: {"target": limit, "reached": reached[name]} for name, limit in TARGETS_MS.items()},
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
