"""The report in a real browser: it draws, it follows the pointer, and hostile answers stay text."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from rlkit.reports.html import write_report

pytestmark = pytest.mark.slow

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
ATTACK = "</script><script>document.title = 'broken in'</script><img src=x onerror=\"document.title = 'broken in'\">"

Show = Callable[..., str]


@pytest.fixture
def show(tmp_path: Path) -> Show:
    """Open a page without a window and return its elements as they are after its script has run."""
    if BROWSER is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")

    def dump(page: Path, *flags: str) -> str:
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=4000", *flags, "--dump-dom"]
        done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
        complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        assert not complaints, complaints
        return done.stdout

    return dump


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """The report of a small run whose answers attack the page."""
    import pyarrow as pa
    from pyarrow import parquet

    folder = tmp_path / "attacked"
    (folder / "rollouts").mkdir(parents=True)
    run = {"kind": "ppo", "name": "attacked", "status": "finished", "config": {"actor": {"lr": 0.001}}, "versions": {}}
    (folder / "run.json").write_text(json.dumps({**run, "origins": {"actor.lr": "--lr"}}))
    events = []
    for step in range(1, 51):
        metrics = {"reward/mean": step / 100, "time/rollout_s": 0.5, "time/step_s": 1.0, "my/own": 3.0}
        events.append({"event": "step", "step": step, "metrics": metrics})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    rows = [
        {
            "group_id": at // 2,
            "question": "1+1=?",
            "reference": '"2"',
            "response": ATTACK,
            "score": at % 2,
            "parts": "{}",
        }
        for at in range(4)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "rollouts" / "step_000050.parquet")
    return write_report(folder)


def test_every_section_is_drawn_and_nothing_breaks_in(report: Path, show: Show) -> None:
    page = show(report)
    assert "<title>attacked - rlkit report</title>" in page
    body = page.partition("<main>")[2].partition('<script type="application/json"')[0]
    for section in ("learning", "answers", "speed", "other", "settings"):
        assert f'id="{section}"' in body
    assert 'id="stability"' not in body, "an empty section is taken away"
    assert body.count("<svg") == body.count('class="plot"') - 1, "only the folded section's chart waits"
    assert "<img" not in body
    assert unescape(body).count(ATTACK) == 4
    assert re.search(
        r"<td class=\"key\">actor.lr</td><td class=\"value\">0.001</td><td class=\"origin\">--lr</td>", body
    )


def test_the_best_validation_is_ringed(tmp_path: Path, show: Show) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"kind": "ppo", "name": "validated", "status": "finished"}))
    events = []
    for step, score in ((0, 0.2), (20, 0.8), (40, 0.6)):
        bounds = {"validation/score_low": score - 0.1, "validation/score_high": score + 0.1, "validation/prompts": 9.0}
        events.append({"event": "validation", "step": step, "metrics": {"validation/score": score, **bounds}})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    body = show(write_report(tmp_path)).partition("<main>")[2]
    (ring,) = re.findall(r'<circle class="ring" cx="([\d.]+)"', body)
    points = re.findall(r'<circle cx="([\d.]+)"', body)
    assert points.index(ring) == 1
    assert "best at step 20" in body


def test_pointing_at_a_chart_moves_every_chart_to_that_step(report: Path, show: Show, tmp_path: Path) -> None:
    pointing = """<script>setTimeout(() => {
      const svg = document.querySelector("#learning svg"), box = svg.getBoundingClientRect();
      svg.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + box.width * 0.6, bubbles: true }));
    }, 1000)</script></body>"""
    # The page's own policy would refuse the script that plays the user.
    page = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", report.read_text())
    pointed = tmp_path / "pointed.html"
    pointed.write_text(page.replace("</body>", pointing))
    body = show(pointed).partition("<main>")[2]
    steps = {int(step) for step in re.findall(r'class="at">(?:[^<]*, )?step (\d+)<', body)}
    assert len(steps) == 1
    (step,) = steps
    assert 20 <= step <= 40
    assert f">{step / 100:g}</b>" in body, "the legend tells the value at that step"


@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_never_scrolls_sideways(width: int, report: Path, show: Show, tmp_path: Path) -> None:
    frame = tmp_path / "frame.html"
    frame.write_text(f"""<body><iframe src="attacked/report.html" style="width:{width}px;height:900px"></iframe><script>
      setTimeout(() => {{
        const inner = document.querySelector("iframe").contentDocument.documentElement;
        document.body.append(`widest ${{inner.scrollWidth}} of ${{inner.clientWidth}}`);
      }}, 1500)</script></body>""")
    found = re.search(r"widest (\d+) of (\d+)", show(frame, "--allow-file-access-from-files"))
    assert found is not None
    assert found[1] == found[2]
