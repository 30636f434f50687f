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
    answer = content_of(folder)["answers"][0]
    assert [answer[key] for key in ("answer", "question", "reference", "source", "error")] == [text] * 5


def test_half_a_surrogate_pair_does_not_stop_the_page(make_run: MakeRun, page_of: PageOf) -> None:
    assert "bad ?" in page_of(make_run(run={"name": "bad \ud800"}))


def test_a_run_killed_before_its_first_step_has_a_page(make_run: MakeRun, content_of: ContentOf) -> None:
    content = content_of(make_run(run={"status": "running", "ended": None}))
    assert (content["charts"], content["answers"], content["tiles"], content["distribution"]) == ([], [], [], None)
    assert content["run"]["duration_s"] is None
    assert [row["key"] for row in content["config"]] == ["run.seed", "run.device", "model.path", "actor.lr"]


def test_a_bare_run_json_is_enough(tmp_path: Path, content_of: ContentOf) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    content = content_of(folder)
    assert content["run"]["name"] == "bare"
    assert content["config"] == []


def test_a_supervised_run_has_losses_and_no_answers(make_run: MakeRun, content_of: ContentOf) -> None:
    folder = make_run(
        run={"kind": "sft"},
        steps={1: {"sft/loss": 2.0}, 2: {"sft/loss": 1.0}},
        validations={2: {"sft/validation_loss": 1.5}},
    )
    content = content_of(folder)
    loss = content["charts"][0]
    assert (loss["title"], [series["name"] for series in loss["series"]]) == ("Loss", ["training", "held-out"])
    assert content["answers"] == []


def test_settings_say_where_they_come_from(make_run: MakeRun, content_of: ContentOf) -> None:
    rows = {row["key"]: (row["value"], row["origin"]) for row in content_of(make_run())["config"]}
    assert rows["actor.lr"] == ("0.001", "ppo.toml:7")
    assert rows["run.seed"] == ("3", "default")


def test_the_time_taken_is_that_of_the_last_attempt(make_run: MakeRun, content_of: ContentOf) -> None:
    run = content_of(make_run(run={"resumed": ["2026-01-01T10:01:00+00:00"]}))["run"]
    assert (run["duration_s"], run["resumed"]) == (30.0, 1)


def test_an_error_that_a_later_attempt_has_made_good_is_not_shown(make_run: MakeRun, content_of: ContentOf) -> None:
    assert content_of(make_run(run={"status": "finished", "error": "old"}))["run"]["error"] == ""
    assert content_of(make_run(name="b", run={"status": "failed", "error": "new"}))["run"]["error"] == "new"


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
    assert [answer["step"] for answer in content_of(folder)["answers"]] == [1, 3]
