from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from rlkit.config import RUN_CONFIGS
from rlkit.errors import ConfigError, PluginConflictError
from rlkit.pipelines import scaffold
from rlkit.pipelines.scaffold import Template, choose_template, create_project, find_templates
from rlkit.plugin import PluginSpec

PROJECTS = ("quickstart", "sft", "ppo", "grpo")
PLUGINS = ("plugin-reward", "plugin-algorithm", "plugin-engine", "plugin-model", "plugin-backend")


def create(tmp_path: Path, name: str, **settings: str) -> tuple[Path, tuple[str, ...]]:
    target = tmp_path / "my-project"
    return target, create_project(choose_template(name), target, settings)


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_rlkit_brings_its_templates_each_with_a_summary() -> None:
    own = {template.name: template for template in find_templates() if template.distribution == "rlkit-llm"}
    assert set(own) == {*PROJECTS, *PLUGINS}
    assert all(template.summary and not template.problem for template in own.values())


@pytest.mark.parametrize("name", [*PROJECTS, *PLUGINS])
def test_every_template_is_copied_whole(tmp_path: Path, name: str) -> None:
    target, commands = create(tmp_path, name)
    files = contents(target)
    assert {"README.md", ".gitignore"} <= set(files)
    assert "copier.yml" not in files
    for path, text in files.items():
        assert "{{" not in text + path, path
        assert "{%" not in text.replace("{% generation %}", ""), path
        assert not path.endswith(".jinja"), path
    assert commands[0] == f"cd {target}"


@pytest.mark.parametrize("name", PROJECTS)
def test_every_project_file_is_valid(tmp_path: Path, name: str) -> None:
    target, _ = create(tmp_path, name)
    kinds = {"sft": "sft", "ppo": "ppo", "grpo": "ppo", "generate": "generate"}
    files = sorted(target.glob("*.toml"))
    assert files
    for file in files:
        config = RUN_CONFIGS[kinds[file.stem]].model_validate(tomllib.loads(file.read_text()))
        assert config.model.path  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [*PROJECTS, *PLUGINS])
def test_all_python_files_compile(tmp_path: Path, name: str) -> None:
    target, _ = create(tmp_path, name)
    for path in target.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")


def test_settings_reach_the_files(tmp_path: Path) -> None:
    target, _ = create(tmp_path, "ppo", model="some/model")
    assert tomllib.loads((target / "ppo.toml").read_text())["model"]["path"] == "some/model"
    assert "/no_think" not in (target / "ppo.toml").read_text()
    other = tmp_path / "plug"
    create_project(choose_template("plugin-reward"), other, {"package": "words", "plugin": "my.words"})
    assert (other / "words" / "plugin.py").is_file()
    points = tomllib.loads((other / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points == {"rlkit.reward_functions": {"my.words": "words.plugin:spec"}}


def test_a_template_spec_names_what_is_there(tmp_path: Path) -> None:
    for name in PLUGINS:
        target = tmp_path / name
        create_project(choose_template(name), target, {"package": "made"})
        namespace: dict[str, Any] = {}
        exec((target / "made" / "plugin.py").read_text(), namespace)
        specs = [value for value in namespace.values() if isinstance(value, PluginSpec)]
        assert specs
        for reference in filter(None, (text for spec in specs for text in (spec.target, spec.config))):
            module, attribute = reference.split(":")
            source = (target / Path(*module.split("."))).with_suffix(".py").read_text()
            assert f"class {attribute}" in source or f"def {attribute}(" in source


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quikstart", r"template 'quikstart' not found; .*Did you mean 'quickstart'\?"),
        ("plugin-rewards", "Did you mean 'plugin-reward'"),
    ],
)
def test_an_unknown_template_is_answered_with_near_ones(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_template(name)


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "used"
    target.mkdir()
    create_project(choose_template("quickstart"), target, {})
    before = contents(target)
    with pytest.raises(ConfigError, match="exists and is not empty"):
        create_project(choose_template("ppo"), target, {})
    assert contents(target) == before


@pytest.mark.parametrize("name", ["1st", "a b", "-x", "ünder"])
def test_what_cannot_name_a_project_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a project name"):
        create_project(choose_template("quickstart"), tmp_path / name, {})
    assert not (tmp_path / name).exists()


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no setting 'modle'; settings: model\. Did you mean 'model'\?"):
        create(tmp_path, "ppo", modle="x")
    with pytest.raises(ConfigError, match=r"no setting 'model'; settings: \(none\)"):
        create(tmp_path, "quickstart", model="x")
    with pytest.raises(ConfigError, match="is no Python package name"):
        create(tmp_path, "plugin-reward", package="not-a-package")
    assert not (tmp_path / "my-project").exists()


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution on the path whose package must not be imported; returns the package's folder."""
    package = tmp_path / "site" / "cool_package"
    (package / "templates" / "cool").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "templates" / "cool" / "copier.yml").write_text("summary:\n  default: a cool project\n  when: false\n")
    (package / "templates" / "cool" / "README.md.jinja").write_text("# {{ name }}\n")
    info = tmp_path / "site" / "cool_dist-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cool-dist\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(
        "[rlkit.templates]\ncool = cool_package.templates.cool\ngone = cool_package.templates.gone\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return package


def test_other_distributions_offer_templates_without_being_imported(third_party: Path, tmp_path: Path) -> None:
    found = {template.name: template for template in find_templates()}
    assert (found["cool"].summary, found["cool"].distribution, found["cool"].version) == (
        "a cool project",
        "cool-dist",
        "2.0",
    )
    target, _ = create(tmp_path, "cool")
    assert (target / "README.md").read_text() == "# my-project\n"
    assert "cool_package" not in sys.modules


def test_a_broken_template_is_reported_and_harms_no_other(third_party: Path) -> None:
    found = {template.name: template for template in find_templates()}
    assert "cool-dist 2.0" in found["gone"].summary
    with pytest.raises(ConfigError, match=r"template 'gone' cannot be used: cool-dist 2\.0"):
        choose_template("gone")
    assert choose_template("quickstart").folder.is_dir()


def test_a_template_that_would_run_code_is_refused(third_party: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    (third_party / "templates" / "cool" / "copier.yml").write_text(f"_tasks:\n  - touch {witness}\n")
    with pytest.raises(ConfigError, match="cannot be copied"):
        create(tmp_path, "cool")
    assert not witness.exists()


def test_two_owners_of_a_name_are_both_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    both = tuple(Template("cool", owner, "1.0", tmp_path) for owner in ("first", "second"))
    monkeypatch.setattr(scaffold, "find_templates", lambda: both)
    with pytest.raises(PluginConflictError, match=r"first 1\.0 and second 1\.0"):
        choose_template("cool")


def test_an_entry_point_without_distribution_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("odd", "no.such.package", scaffold.TEMPLATE_GROUP)
    monkeypatch.setattr(scaffold, "entry_points", lambda group: (entry,))
    assert any(template.name == "odd" and template.problem for template in find_templates())


def run_python(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, env={**os.environ}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_quickstart_data_never_overlap_and_depend_on_the_seed_alone(tmp_path: Path) -> None:
    target, _ = create(tmp_path, "quickstart")
    run_python(target, "make_data.py")
    run_python(target, "make_data.py", "--output", "again")
    run_python(target, "make_data.py", "--output", "other", "--seed", "1")
    names = ("sft.jsonl", "train.jsonl", "heldout.jsonl")
    assert [(target / "data" / n).read_text() for n in names] == [(target / "again" / n).read_text() for n in names]
    assert (target / "data" / names[2]).read_text() != (target / "other" / names[2]).read_text()

    def problems(questions: list[str]) -> set[frozenset[str]]:
        return {frozenset(question.rstrip("=?").split("+")) for question in questions}

    held = [row["prompt"] for row in rows(target / "data" / "heldout.jsonl")]
    train = [row["prompt"] for row in rows(target / "data" / "train.jsonl")]
    learned = [row["messages"][0]["content"] for row in rows(target / "data" / "sft.jsonl")]
    assert len(held) == len(set(held)) >= 500
    assert len(set(train)) == len(train)
    assert set(learned) <= set(train)
    assert not problems(held) & problems(train)


def test_quickstart_data_load_and_its_reward_knows_the_right_answers(tmp_path: Path) -> None:
    from rlkit.data.conversations import load_conversations
    from rlkit.data.prompts import load_prompts

    target, _ = create(tmp_path, "quickstart")
    run_python(target, "make_data.py")
    prompts = load_prompts([str(target / "data" / "heldout.jsonl")])
    conversations = load_conversations([str(target / "data" / "sft.jsonl")])
    assert [message["role"] for message in conversations[0].messages] == ["user", "assistant"]
    namespace: dict[str, Any] = {}
    exec((target / "reward.py").read_text(), namespace)
    best = {namespace["score"](f"1+1=2 #### {prompt.reference}", prompt.reference) for prompt in prompts}
    wrong = {namespace["score"](f"1+1=2 #### {prompt.reference}1", prompt.reference) for prompt in prompts}
    assert min(best) > max(wrong)
    assert namespace["score"]("", prompts[0].reference) < min(best)


def test_quickstart_shows_worked_steps_that_are_right(tmp_path: Path) -> None:
    target, _ = create(tmp_path, "quickstart")
    run_python(target, "make_data.py")
    for row in rows(target / "data" / "sft.jsonl"):
        asked, answered = (message["content"] for message in row["messages"])
        steps, _, result = answered.partition(" #### ")
        first, second = (int(number) for number in asked.rstrip("=?").split("+"))
        assert int(result) == first + second
        for step in steps.split():
            left, _, right = step.partition("=")
            assert sum(map(int, left.split("+"))) == int(right)


@pytest.mark.parametrize("name", ["sft", "ppo", "grpo"])
def test_prepare_data_converts_local_files(tmp_path: Path, name: str) -> None:
    target, _ = create(tmp_path, name)
    source = tmp_path / "raw.jsonl"
    source.write_text(json.dumps({"question": "1 + 1?", "answer": "#### 2", "more": 1}) + "\n")
    run_python(target, "prepare_data.py", "--train", str(source), "--test", str(source))
    assert rows(target / "data" / "test.jsonl") == [
        {"question": "1 + 1?", "answer": "#### 2", "data_source": "openai/gsm8k"}
    ]


def test_prepare_data_reads_the_real_files(shared_data: Path, tmp_path: Path) -> None:
    target, _ = create(tmp_path, "ppo")
    files = [f"--{split}={shared_data}/gsm8k_{split}.jsonl" for split in ("train", "test")]
    assert "7473 rows" in run_python(target, "prepare_data.py", *files)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_made_from_a_template_passes_its_own_tests(tmp_path: Path, name: str) -> None:
    target = tmp_path / "made-plugin"
    create_project(choose_template(name), target, {})
    site = tmp_path / "site"
    run_python(
        tmp_path,
        *("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"),
        *("--target", str(site), str(target)),
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=target,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
