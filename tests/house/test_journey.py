"""The journey is written down in three places; all show the commands that `make demo` runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
INTO_THE_PROJECT = [["rlkit", "init", "demo"], ["cd", "demo"]]


@pytest.fixture(scope="module")
def journey() -> ModuleType:
    """benchmarks/journey.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("rlkit_journey", REPOSITORY / "benchmarks" / "journey.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def commands(journey: ModuleType) -> list[list[str]]:
    """What `make demo` runs inside the project."""
    template = REPOSITORY / "templates" / "quickstart" / "README.md.jinja"
    return journey.shell_commands(template, journey.SECTION)


def test_the_journey_goes_all_the_way(commands):
    steps = [" ".join(command[:2]) for command in commands]
    assert steps == [
        "python make_data.py",
        "rlkit models",
        "rlkit sft",
        "rlkit train",
        "rlkit generate",
        "rlkit generate",
        "rlkit eval",
    ]


@pytest.mark.parametrize(
    ("page", "heading"), [("README.md", "## Five minutes"), ("docs/quickstart.md", "## The whole way")]
)
def test_a_page_shows_the_commands_that_the_demo_runs(journey, commands, page, heading):
    assert journey.shell_commands(REPOSITORY / page, heading) == INTO_THE_PROJECT + commands


def test_a_comment_is_not_part_of_a_command_and_a_quoted_hash_is(journey, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        '## Go\n\n```sh\na "x # y"   # why\n# only a comment\n```\n\n```python\nb\n```\n\n## Else\n\n```sh\nc\n```\n'
    )
    assert journey.shell_commands(page, "## Go") == [["a", "x # y"]]


def test_an_earlier_journey_is_never_overwritten(journey, tmp_path):
    wanted = tmp_path / "demo"
    assert journey.free_folder(wanted) == wanted
    wanted.mkdir()
    (tmp_path / "demo-2").mkdir()
    assert journey.free_folder(wanted) == tmp_path / "demo-3"


def test_a_result_holds_both_scores_and_whether_the_limits_are_kept(journey):
    def file(mean: float) -> dict[str, object]:
        return {"sources": [{"prompts": 1000, "score": {"mean": mean, "low": mean - 0.03, "high": mean + 0.03}}]}

    evaluation = {
        "files": [file(0.25), file(0.5)],
        "comparisons": [{"test": {"difference": 0.25, "p_value": 1e-9}}],
    }
    quick, slow = [journey.Step("rlkit sft", 20.0)], [journey.Step("rlkit sft", 301.0)]
    result = journey.journey_result(1, quick, evaluation)
    assert result["sft"] == {"problems": 1000, "exact_match": 0.25, "low": 0.22, "high": 0.28}
    assert (result["gain_points"], result["within_limits"]) == (25.0, True)
    assert not journey.journey_result(1, slow, evaluation)["within_limits"]
    evaluation["comparisons"] = [{"test": {"difference": 0.14, "p_value": 1e-9}}]
    assert not journey.journey_result(1, quick, evaluation)["within_limits"]
