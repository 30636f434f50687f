"""How long the HTML report takes to open in Chromium: 1,000 steps and 20,000 answers, until charts and answers are there.

Wall time, and the processor time of the page's own process, which a busy machine does not change. Needs Chromium
(`apt-get install chromium`); run and browser are those of the tests.

    python benchmarks/report_opening.py [--output benchmarks/results/report_opening.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rlkit.reports.html import write_report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reports" / "support"))
from headless_browser import Page, browser
from large_run import make_large_run

ROUNDS = 5


def seconds_to_open(page: Page, report: Path) -> dict[str, float]:
    before, began = page.worked_s(), time.monotonic()
    page.open(report)
    waited = time.monotonic() - began
    worked = sum(seconds - before.get(process, 0.0) for process, seconds in page.worked_s().items())
    return {"wall_s": round(waited, 2), "processor_s": round(worked, 2)}


def measure(folder: Path) -> dict[str, Any]:
    report = write_report(make_large_run(folder / "large", steps=1_000, answers=20))
    with browser(folder / "profile") as page:
        rounds = [seconds_to_open(page, report) for _ in range(ROUNDS)]
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    return {
        "steps": 1_000,
        "answers": 20_000,
        "file_mib": round(report.stat().st_size / 2**20, 1),
        "rounds": rounds,
        **medians,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="benchmarks/results/report_opening.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder))
    Path(arguments.output).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
