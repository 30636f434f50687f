"""lm-evaluation-harness gives the same numbers on rlkit's models as on its own `hf` model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError
from rlkit.evaluation.evaluate import EvaluationResult
from rlkit.evaluation.harness.run import RESAMPLES
from rlkit.pipelines.evaluate import run_evaluate

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.slow
TASKS = ("tiny_choice", "tiny_generate", "tiny_rolling")
Run = Callable[..., EvaluationResult]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task_folder: Path, harness_model: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def evaluate(*tasks: str, **keys: Any) -> EvaluationResult:
        flags = {
            "evaluation.tasks": list(tasks),
            "evaluation.include_path": str(task_folder),
            "evaluation.models": [str(harness_model)],
            "run.device": "cpu",
        }
        flags |= {key.replace("__", "."): value for key, value in keys.items()}
        return run_evaluate(load_config("eval", None, flags=flags, environ={}))

    return evaluate


def ask_harness(tasks: Sequence[str], folder: Path, model: Path, **settings: Any) -> Any:
    """What the harness says of a model by itself."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    return simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model), "dtype": "float32"},
        tasks=list(tasks),
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        device="cpu",
        batch_size=4,
        bootstrap_iters=RESAMPLES,
        **settings,
    )


@pytest.fixture(scope="module")
def directly(task_folder: Path, harness_model: Path) -> Any:
    return ask_harness(TASKS, task_folder, harness_model)


def reported(results: Any, *, errors: bool = False) -> dict[tuple[str, str], float]:
    """Every number of the harness's own tables, or every standard error that it gives."""
    return {
        (task, key.replace("_stderr", "")): value
        for task, table in results["results"].items()
        for key, value in table.items()
        if "," in key and ("_stderr" in key) == errors and value != "N/A"
    }


def shown(result: EvaluationResult) -> dict[tuple[str, str], float]:
    return {(number.task, f"{number.metric},{number.filter}"): number.value for number in result.files[0].harness}


def test_every_number_of_every_kind_of_task_is_the_same(
    run: Run, directly: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(*TASKS)
    assert "bootstrapping" not in capsys.readouterr().out, "standard output is for results"
    found, expected = shown(result), reported(directly)
    assert set(found) == set(expected)
    assert found == pytest.approx(expected, rel=1e-5)
    assert 0 < found["tiny_choice", "acc,none"] < 1, "a number that says nothing"
    errors = {
        (number.task, f"{number.metric},{number.filter}"): number.standard_error
        for number in result.files[0].harness
        if number.standard_error is not None
    }
    assert errors == pytest.approx(reported(directly, errors=True), rel=1e-5)
    assert errors["tiny_choice", "acc,none"] > 0 and errors["tiny_choice", "mcc,none"] > 0


def test_through_a_chat_template_the_numbers_are_the_same_too(
    run: Run, directly: Any, task_folder: Path, harness_model: Path
) -> None:
    tasks = ("tiny_choice", "tiny_generate")
    expected = ask_harness(tasks, task_folder, harness_model, apply_chat_template=True, num_fewshot=0)
    result = run(*tasks, evaluation__chat=True, evaluation__fewshot=0)
    assert shown(result) == pytest.approx(reported(expected), rel=1e-5)
    answers = [row.answers[0] for row in result.files[0].scored.rows if row.prompt.data_source == "tiny_generate"]
    assert answers == [sample["filtered_resps"][0] for sample in expected["samples"]["tiny_generate"]]
    assert answers != [sample["filtered_resps"][0] for sample in directly["samples"]["tiny_generate"]]


def test_models_with_different_templates_are_compared(run: Run, harness_model: Path, tmp_path: Path) -> None:
    other = shutil.copytree(harness_model, tmp_path / "other")
    (other / "chat_template.jinja").write_text("{% for message in messages %}Q: {{ message.content }} A:{% endfor %}")
    models = [str(harness_model), str(other)]
    result = run("tiny_generate", evaluation__models=models, evaluation__chat=True, evaluation__fewshot=0)
    (comparison,) = result.comparisons
    assert comparison.test.prompts == 24
    texts = [{row.prompt.question for row in file.scored.rows} for file in result.files]
    assert not texts[0] & texts[1]


def test_the_numbers_are_there_where_a_comparison_is_impossible(
    run: Run, harness_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlkit.pipelines import tasks

    scored = tasks.scored_tasks

    def of_other_documents(results: Any, *, label: str) -> Any:
        """As if the data had changed between the first model and the second."""
        for samples in results["samples"].values():
            for sample in samples:
                sample["doc_hash"] += label
        return scored(results, label=label)

    monkeypatch.setattr(tasks, "scored_tasks", of_other_documents)
    other = shutil.copytree(harness_model, tmp_path / "other")
    result = run("tiny_generate", evaluation__models=[str(harness_model), str(other)])
    assert [len(file.harness) for file in result.files] == [1, 1]
    assert result.comparisons == ()
    assert any("not compared" in warning and "different prompts" in warning for warning in result.warnings)


def test_likelihoods_and_answers_agree_document_by_document(run: Run, directly: Any) -> None:
    result = run(*TASKS)
    sources = {summary.data_source: summary for summary in result.files[0].summaries}
    assert sources["tiny_choice"].score.mean == pytest.approx(directly["results"]["tiny_choice"]["acc,none"])
    rows = [row for row in result.files[0].scored.rows if row.prompt.data_source == "tiny_generate"]
    expected = [sample["filtered_resps"][0] for sample in directly["samples"]["tiny_generate"]]
    assert [row.answers[0] for row in rows if row.answers] == expected
    assert len(set(expected)) > 1


def test_a_second_run_asks_nothing_again(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = run("tiny_choice", "tiny_generate")
    from rlkit.pipelines import tasks

    monkeypatch.setattr(tasks, "load_causal_model", lambda *a: pytest.fail("the model was loaded again"))
    monkeypatch.setattr(tasks, "build_engine", lambda *a, **k: pytest.fail("the engine was started again"))
    assert run("tiny_choice", "tiny_generate").files[0].scored.rows == first.files[0].scored.rows
    content = json.loads((tmp_path / "evaluation" / "result.json").read_text())
    assert {number["task"] for number in content["files"][0]["harness"]} == {"tiny_choice", "tiny_generate"}


def test_other_settings_of_the_engine_are_asked_anew(run: Run, tmp_path: Path) -> None:
    run("tiny_generate")
    run("tiny_generate", generation__options={"max_rows": 7})
    assert len(list((tmp_path / "evaluation").glob("*.harness*.db"))) == 2


def test_an_unknown_task_is_named_with_near_ones(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"no task or group 'tiny_choise'.*near: tiny_choice"):
        run("tiny_choise")
