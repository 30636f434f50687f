"""The report in a real browser: it draws, it follows the pointer, and hostile answers stay text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from headless_browser import BROWSER, Page, browser
from large_run import make_large_run

from rlkit.reports.html import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (apt-get install chromium)"),
]

ATTACK = "</script><script>document.title = 'broken in'</script><img src=x onerror=\"document.title = 'broken in'\">"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all tests."""
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def nothing_to_complain_about(page: Page) -> Iterator[None]:
    """Whatever a test does: no error on the console, and nothing asked of anywhere but the page's own file."""
    page.complaints.clear()
    page.requests.clear()
    yield
    assert not page.complaints
    assert [url for url in page.requests if not url.startswith(("file://", "about:"))] == []


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a small run whose answers attack the page."""
    import pyarrow as pa
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("runs") / "attacked"
    (folder / "rollouts").mkdir(parents=True)
    run = {"kind": "ppo", "name": "attacked", "status": "finished", "config": {"actor": {"lr": 0.001}}, "versions": {}}
    (folder / "run.json").write_text(json.dumps({**run, "origins": {"actor.lr": "--lr"}}))
    events = []
    for step in range(1, 51):
        metrics = {"reward/mean": step / 100, "time/rollout_s": 0.5, "time/step_s": 1.0, "my/own": 3.0}
        events.append({"event": "step", "step": step, "metrics": metrics})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    shared = {"row_id": 3, "question": "1+1=?", "reference": '"2"', "parts": "{}", "data_source": ATTACK}
    rows = [{**shared, "group_id": at // 2, "response": ATTACK, "score": at % 2} for at in range(4)]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "rollouts" / "step_000050.parquet")
    return write_report(folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of moderate size."""
    folder = tmp_path_factory.mktemp("trained") / "runs"
    return [make_large_run(folder / name, steps=60, answers=16, seed=seed) for seed, name in enumerate(("one", "two"))]


@pytest.fixture(scope="module")
def trained(runs: list[Path]) -> Path:
    """The report of one run of moderate size."""
    return write_report(runs[0])


def text_of(page: Page, selector: str) -> str:
    return str(page.ask(f"document.querySelector({json.dumps(selector)}).innerText"))


def test_every_section_is_drawn_and_nothing_breaks_in(attacked: Path, page: Page) -> None:
    page.open(attacked)
    assert page.ask("document.title") == "attacked - rlkit report"
    sections = page.ask("[...document.querySelectorAll('section[data-title]')].map((one) => one.id)")
    assert sections == ["learning", "answers", "speed", "other", "settings"], "an empty section is taken away"
    assert page.ask("document.querySelectorAll('main img').length") == 0
    page.wait("document.querySelectorAll('.group pre').length === 2")
    assert page.ask("document.querySelector('.group pre').textContent") == ATTACK
    assert "actor.lr" in text_of(page, "#settings") and "--lr" in text_of(page, "#settings")


def test_pointing_at_a_chart_moves_every_chart_to_that_step(attacked: Path, page: Page) -> None:
    page.open(attacked)
    page.wait("document.querySelector('#learning .plot svg')")
    box = page.ask(
        "(({x, y, width, height}) => [x, y, width, height])(document.querySelector('#learning .plot svg').getBoundingClientRect())"
    )
    page.point(box[0] + 0.6 * box[2], box[1] + 0.5 * box[3])
    places = page.ask(
        "[...new Set([...document.querySelectorAll('.card .at')].map((one) => one.textContent.match(/step (\\d+)$/)).filter(Boolean).map((found) => found[1]))]"
    )
    assert len(places) == 1
    step = int(places[0])
    assert 20 <= step <= 40
    assert page.ask("document.querySelector('#learning .key b').textContent") == f"{step / 100:g}", (
        "the value at that step"
    )


def test_dragging_over_a_chart_shows_that_stretch_in_all_and_a_button_the_whole_again(
    trained: Path, page: Page
) -> None:
    page.open(trained)
    page.wait("document.querySelector('#learning .plot svg')")
    box = page.ask(
        "(({x, y, width, height}) => [x, y, width, height])(document.querySelector('#learning .plot svg').getBoundingClientRect())"
    )
    middle = box[1] + 0.5 * box[3]
    page.point(box[0] + 0.5 * box[2], middle, kind="mousePressed", pressed=True)
    page.point(box[0] + 0.8 * box[2], middle, pressed=True)
    page.point(box[0] + 0.8 * box[2], middle, kind="mouseReleased")
    assert 20 < page.ask("view.zoom[0]") < page.ask("view.zoom[1]") < 55
    assert page.ask("[...document.querySelectorAll('#toolbar button')].pop().hidden") is False
    page.ask("[...document.querySelectorAll('#toolbar button')].pop().click()")
    assert page.ask("view.zoom") is None


def test_axes_scale_and_smoothing_can_be_chosen(trained: Path, page: Page) -> None:
    page.open(trained)
    page.wait("document.querySelector('#learning .plot svg')")
    card = "[...document.querySelectorAll('#learning .card')].find((one) => one.innerText.startsWith('Answer length'))"
    page.ask(f"{card}.scrollIntoView({{ behavior: 'instant' }})")
    page.wait(f"{card}.querySelector('svg path')")
    drawing = f"{card}.querySelector('.plot').innerHTML"
    linear = page.ask(drawing)
    page.ask("[...document.querySelectorAll('#toolbar button')].find((one) => one.textContent === 'time').click()")
    timed = page.ask(drawing)
    assert timed != linear
    assert "after" in text_of(page, "#learning .at")
    page.ask("[...document.querySelectorAll('#toolbar button')].find((one) => one.textContent === 'log').click()")
    logarithmic = page.ask(drawing)
    assert logarithmic != timed
    page.ask(
        "(() => { const s = document.getElementById('smoothing'); s.value = 20; s.dispatchEvent(new Event('input')); })()"
    )
    assert page.ask(drawing) != logarithmic


def test_the_best_validation_is_ringed(trained: Path, page: Page) -> None:
    page.open(trained)
    page.wait("document.querySelector('#learning circle.ring')")
    assert page.ask("document.querySelectorAll('#learning tr.best').length") == 1


def test_answers_are_searched_filtered_and_sorted(trained: Path, page: Page) -> None:
    page.open(trained)
    page.wait("document.querySelectorAll('.row').length > 3")
    total = 60 * 16
    assert text_of(page, ".count") == f"{total} answers"
    assert page.ask("document.querySelectorAll('.row').length") < 40, "only those in sight exist"
    change = "(() => {{ const one = document.querySelector({selector}); one.value = {value}; one.dispatchEvent(new Event('input')); }})()"

    def choose(selector: str, value: str) -> None:
        before = text_of(page, ".count")
        page.ask(change.format(selector=json.dumps(selector), value=json.dumps(value)))
        page.wait(f"document.querySelector('.count').innerText !== {json.dumps(before)}")

    choose("#answers input[aria-label='from step']", "31")
    assert text_of(page, ".count") == f"480 of {total} answers"
    choose("#answers input[aria-label='from step']", "1")
    choose("#answers select[aria-label='every ending']", "length")
    choose("#answers input[type=search]", "MARBLES")
    page.wait("document.querySelector('.count').innerText.includes('of 960')")
    page.wait("document.querySelector('.row .facts')")
    assert page.ask("[...document.querySelectorAll('.row .facts')].every((one) => one.innerText.includes('cut off'))")
    page.ask("[...document.querySelectorAll('#answers .controls button')].pop().click()")
    page.wait(f"document.querySelector('.count').innerText === '{total} answers'")
    page.ask(change.format(selector="'#answers select[aria-label=Order]'", value="'worst'"))
    page.wait("document.querySelector('.row .score').innerText === '\u22120.2'")


def test_one_answer_is_shown_token_by_token_beside_its_group(trained: Path, page: Page) -> None:
    page.open(trained)
    page.wait("document.querySelectorAll('.token').length > 20")
    assert page.ask("document.querySelectorAll('.group .reply').length") == 4
    assert "these are token ids" in text_of(page, ".by-token")
    columns = page.ask("[...document.querySelectorAll('.by-token option')].map((one) => one.textContent)")
    assert columns[:5] == ["advantage", "trainer \u2212 engine", "ratio", "log-prob", "entropy"]
    page.ask("document.querySelector('.by-token').scrollIntoView({ block: 'center', behavior: 'instant' })")
    box = page.ask("(({x, y}) => [x, y])(document.querySelector('.token').getBoundingClientRect())")
    page.point(box[0] + 4, box[1] + 8)
    page.wait("!document.querySelector('.tip').hidden")
    assert "log-prob" in text_of(page, ".tip")
    page.ask("document.querySelectorAll('.group .reply')[1].click()")
    page.wait("document.querySelectorAll('.group .reply')[1].getAttribute('aria-current') === 'true'")


def test_the_answer_of_a_worst_token_is_opened_at_it(trained: Path, page: Page) -> None:
    page.open(trained)
    page.wait("document.querySelector('#mismatch .listing button')")
    page.ask("document.querySelector('#mismatch .listing button').click()")
    page.wait("document.querySelector('.token.sought')")
    assert (
        page.ask("document.querySelector('.by-token select').selectedOptions[0].textContent") == "trainer \u2212 engine"
    )


def test_runs_are_overlaid_and_can_be_hidden(runs: list[Path], page: Page) -> None:
    page.open(write_report(*runs))
    page.wait("document.querySelectorAll('#learning .card:nth-child(3) path').length >= 4")
    assert page.ask("document.querySelectorAll('#learning .card:nth-child(3) .by-run tbody tr').length") == 2
    page.ask("document.querySelector('#toolbar .runs button').click()")
    assert (
        page.ask("document.querySelectorAll('#learning .card:nth-child(3) .by-run tbody tr:not([hidden])').length") == 1
    )
    assert "actor.lr" in text_of(page, "#settings") and "grad_clip" not in text_of(page, "#settings")


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("which", ["attacked", "trained"])
def test_the_page_never_scrolls_sideways(which: str, width: int, page: Page, request: pytest.FixtureRequest) -> None:
    page.open(request.getfixturevalue(which), width=width)
    assert page.ask("document.documentElement.scrollWidth") <= width


def test_a_thousand_steps_with_twenty_thousand_answers_can_be_looked_at(tmp_path: Path, page: Page) -> None:
    """How soon: benchmarks/report_opening.py."""
    page.open(write_report(make_large_run(tmp_path / "large", steps=1_000, answers=20)))
    assert text_of(page, ".count") == "20,000 answers"
