"""The page as a whole: offline, harmless, and there whatever the run has left."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rlkit.errors import DataError
from rlkit.reports.html import write_report
from rlkit.reports.rollout_files import rollout_files

MakeRun = Callable[..., Path]
PageOf = Callable[[Path], str]
ContentOf = Callable[[Path], dict[str, Any]]

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(1)>',
    "</SCRIPT \n>",
    "@@DATA@@",
    "${alert(1)}",
    "line\u2028separator",
)


class Elements(HTMLParser):
    """Every element of a page, as a browser's parser would see it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs


def elements(page: str) -> Elements:
    parser = Elements()
    parser.feed(page)
    return parser


def test_the_page_loads_nothing_from_anywhere(make_run: MakeRun, page_of: PageOf) -> None:
    page = page_of(make_run(steps={1: {"reward/mean": 0.5}}, answers={1: [{}]}))
    found = elements(page)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(found.names)
    assert not [name for name, _ in found.attributes if name in {"src", "srcset", "href", "action"}]
    # The one address in the page is the name of SVG's namespace, which is never fetched.
    assert set(re.findall(r"https?://[^\"'\s)]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in page and "url(" not in page


def test_the_policy_allows_the_page_s_own_script_only(make_run: MakeRun, page_of: PageOf) -> None:
    page = page_of(make_run())
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'" in page


@pytest.mark.parametrize("text", HOSTILE)
def test_an_answer_stays_text_whatever_it_holds(
    text: str, make_run: MakeRun, page_of: PageOf, content_of: ContentOf
) -> None:
    harmless = make_run(answers={1: [{}]})
    expected = elements(page_of(harmless)).names
    hostile = {"response": text, "question": text, "reference": json.dumps(text), "data_source": text, "error": text}
    folder = make_run(name="hostile", run={"name": text, "command": [text]}, answers={1: [hostile]})
    assert elements(page_of(folder)).names == expected
    content = content_of(folder)
    answer = content["texts"][0]
    assert [answer[key] for key in ("answer", "question", "reference", "error")] == [text] * 4
    assert content["index"]["sources"] == [text]


def test_half_a_surrogate_pair_does_not_stop_the_page(make_run: MakeRun, page_of: PageOf) -> None:
    assert "bad ?" in page_of(make_run(run={"name": "bad \ud800"}))


def test_a_run_killed_before_its_first_step_has_a_page(make_run: MakeRun, content_of: ContentOf) -> None:
    content = content_of(make_run(run={"status": "running", "ended": None}))
    assert (content["charts"], content["tiles"], content["distributions"], content["mismatch"]) == ([], [], [], None)
    assert content["answers"] == {"count": 0, "total": 0, "index": None, "blocks": [], "vocabulary": None}
    assert content["duration_s"] is None
    assert [row["key"] for row in content["settings"]] == ["run.seed", "run.device", "model.path", "actor.lr"]


def test_a_bare_run_json_is_enough(tmp_path: Path, content_of: ContentOf) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    content = content_of(folder)
    assert content["label"] == "bare"
    assert content["settings"] == []


def test_a_supervised_run_has_losses_and_no_answers(make_run: MakeRun, content_of: ContentOf) -> None:
    folder = make_run(
        run={"kind": "sft"},
        steps={1: {"sft/loss": 2.0}, 2: {"sft/loss": 1.0}},
        validations={2: {"sft/validation_loss": 1.5}},
    )
    content = content_of(folder)
    loss = content["charts"][0]
    assert (loss["title"], [series["name"] for series in loss["series"]]) == ("Loss", ["training", "held-out"])
    assert content["answers"]["count"] == 0


def test_settings_say_where_they_come_from(make_run: MakeRun, content_of: ContentOf) -> None:
    rows = {row["key"]: (row["values"], row["origins"]) for row in content_of(make_run())["settings"]}
    assert rows["actor.lr"] == (["0.001"], ["ppo.toml:7"])
    assert rows["run.seed"] == (["3"], ["default"])


def test_the_time_taken_is_that_of_the_last_attempt(make_run: MakeRun, content_of: ContentOf) -> None:
    run = content_of(make_run(run={"resumed": ["2026-01-01T10:01:00+00:00"]}))
    assert (run["duration_s"], run["resumed"]) == (30.0, 1)


def test_an_error_that_a_later_attempt_has_made_good_is_not_shown(make_run: MakeRun, content_of: ContentOf) -> None:
    assert content_of(make_run(run={"status": "finished", "error": "old"}))["error"] == ""
    assert content_of(make_run(name="b", run={"status": "failed", "error": "new"}))["error"] == "new"


@pytest.mark.parametrize("content", ["{", "[]", '"run"'])
def test_a_run_json_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(DataError, match=r"run\.json .*a report needs it"):
        write_report(tmp_path)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no run"):
        write_report(tmp_path)


def test_a_damaged_rollouts_file_is_passed_over(make_run: MakeRun, content_of: ContentOf) -> None:
    folder = make_run(answers={1: [{}], 3: [{}]})
    (folder / "rollouts" / "step_000002.parquet").write_bytes(b"PAR1 cut")
    assert content_of(folder)["index"]["step"] == [1, 3]


def test_the_clock_runs_from_the_beginning_of_the_first_step(make_run: MakeRun, content_of: ContentOf) -> None:
    folder = make_run()
    lines = [
        {"event": "step", "step": step, "time": time, "metrics": {"time/step_s": 2.0, "reward/mean": 0.5}}
        for step, time in ((1, 102.0), (2, 104.5))
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert content_of(folder)["clock"] == {"steps": [1, 2], "seconds": [2.0, 4.5]}


def test_the_same_run_gives_the_same_page(make_run: MakeRun, page_of: PageOf) -> None:
    folder = make_run(steps={1: {"reward/mean": 0.5}}, answers={1: [{}]})
    assert page_of(folder) == page_of(folder)


def test_a_file_can_be_named_and_nothing_is_left_of_a_failed_attempt(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = make_run(), tmp_path / "new" / "page.html"
    assert write_report(folder, output=path) == path
    assert path.is_file() and not (folder / "report.html").exists()
    monkeypatch.setattr("rlkit.reports.html.read_settings", lambda runs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(folder, output=tmp_path / "failed" / "page.html")
    assert list((tmp_path / "failed").iterdir()) == []


def spoil(file: Path) -> None:
    """The pages of a parquet file, but not its footer."""
    content = bytearray(file.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    file.write_bytes(content)


@pytest.mark.parametrize("misfortune", [spoil, Path.unlink], ids=["damaged", "deleted by the resumed run"])
def test_a_step_whose_answers_cannot_be_read_when_their_turn_comes_is_passed_over(
    misfortune: Callable[[Path], None], make_run: MakeRun, content_of: ContentOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = {"rollout_log_probs": [-1.0, -2.0], "old_log_probs": [-1.5, -2.0]}
    folder = make_run(answers={step: [{**tokens, "response": "x" * 400 + str(step)}] * 50 for step in (1, 2)})
    found = rollout_files(folder / "rollouts")
    misfortune(found[1].path)
    monkeypatch.setattr("rlkit.reports.html.rollout_files", lambda _: found)
    content = content_of(folder)
    assert set(content["index"]["step"]) == {1}
    assert [one["steps"] for one in content["distributions"]] == [[1]] and content["mismatch"]["steps"] == [1]


def test_absurd_numbers_are_left_out(make_run: MakeRun, content_of: ContentOf) -> None:
    absurd = ["NaN", "Infinity", "-1e308", "1e308", "1" + "0" * 400]
    folder = make_run(answers={1: [{"score": 1.0, "parts": f'{{"own": {number}}}'} for number in absurd]})
    lines = [
        f'{{"event": "step", "step": {at}, "time": {n}, "metrics": {{"my/own": {n}}}}}' for at, n in enumerate(absurd)
    ]
    (folder / "metrics.jsonl").write_text(
        "\n".join([*lines, '{"event": "step", "step": 9, "metrics": {"my/own": 2.5}}'])
    )
    content = content_of(folder)
    assert [(chart["series"][0]["x"], chart["series"][0]["y"]) for chart in content["charts"]] == [([9], [2.5])]
    assert [one["name"] for one in content["distributions"]] == ["reward"]


def test_columns_without_a_type_are_empty(make_run: MakeRun, content_of: ContentOf) -> None:
    folder = make_run(
        answers={1: [dict.fromkeys(("question", "response_ids", "parts", "score", "group_id", "row_id"))]}
    )
    assert (content_of(folder)["texts"][0]["question"], content_of(folder)["index"]["tokens"]) == ("", [None])
