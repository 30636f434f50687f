"""Every leaf key of every kind of run, misspelt by one edit, is refused with the right key suggested."""

from __future__ import annotations

import random
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlkit.config.keys import children_of, leaf_keys
from rlkit.config.load import load_config
from rlkit.config.runs import RUN_CONFIGS
from rlkit.errors import ConfigError

KEYS = [(kind, key) for kind, config_class in RUN_CONFIGS.items() for key, _ in leaf_keys(config_class)]


def one_edit(word: str, seed: str) -> Iterator[str]:
    """A deletion, an insertion, a substitution and a swap, each at a place drawn from `seed`."""
    chance = random.Random(seed)
    place = chance.randrange(len(word))
    other = chance.choice([letter for letter in string.ascii_lowercase if letter != word[place]])
    yield word[:place] + word[place + 1 :]
    yield word[:place] + other + word[place:]
    yield word[:place] + other + word[place + 1 :]
    if len(word) > 1:
        place = chance.randrange(len(word) - 1)
        yield word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def misspellings(kind: str, key: str) -> list[str]:
    """Wrong spellings of the key's last part that are no key of their own, and not nearer to a neighbour."""
    section, _, name = key.rpartition(".")
    neighbours = set(children_of(RUN_CONFIGS[kind], section))
    return [f"{section}.{wrong}" for wrong in one_edit(name, f"{kind} {key}") if wrong and wrong not in neighbours]


def complaint(kind: str, **sources: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(kind, environ={}, **sources)
    return str(caught.value)


@pytest.mark.parametrize(("kind", "key"), KEYS, ids=lambda value: str(value))
def test_one_edit_is_refused_and_the_right_key_is_suggested(kind, key, tmp_path):
    wrong = misspellings(kind, key)
    assert len(wrong) >= 2
    for spelling in wrong:
        assert f"unknown key {spelling}" in (by_set := complaint(kind, assignments=[f"{spelling}=1"]))
        assert f"did you mean {key}?" in by_set
    section, _, name = wrong[0].rpartition(".")
    file = tmp_path / "project.toml"
    file.write_text(f"[{section}]\n{name} = 1\n")
    assert f"did you mean {key}?" in (by_file := complaint(kind, file=file))
    assert "project.toml:2" in by_file


@pytest.mark.parametrize(("kind", "key"), KEYS, ids=lambda value: str(value))
def test_a_misspelt_environment_variable_is_refused_too(kind, key):
    spelling = misspellings(kind, key)[0]
    variable = f"RLKIT__{spelling.upper().replace('.', '__')}"
    with pytest.raises(ConfigError) as caught:
        load_config(kind, environ={variable: "1"})
    assert f"did you mean {key}?" in str(caught.value)
    assert variable in str(caught.value)


@pytest.mark.parametrize("kind", RUN_CONFIGS)
def test_a_misspelt_section_is_refused(kind, tmp_path):
    for section in RUN_CONFIGS[kind].model_fields:
        file = tmp_path / f"{section}.toml"
        file.write_text(f"[{section}x]\n")
        assert f"did you mean {section}?" in complaint(kind, file=file)


def test_nothing_heavy_is_loaded_for_the_refusal(tmp_path: Path):
    script = (
        "import sys\n"
        "sys.argv = ['rlkit', 'train', 'ppo', '--set', 'actor.lrr=1']\n"
        "from rlkit.cli.main import main\n"
        "try:\n    main()\n"
        "except SystemExit as error:\n"
        "    assert error.code == 2, error.code\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pyarrow', 'ray', 'vllm', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "error: unknown key actor.lrr (--set); did you mean actor.lr?"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("algorithm.lam", "it is an option of gae: algorithm.advantage_options.lam"),
        ("algorithm.clip_high", ": algorithm.policy_loss_options.clip_high"),
        ("rollout.max_batch_tokens", "it is an option of hf: rollout.options.max_batch_tokens"),
    ],
)
def test_an_option_of_a_plugin_is_told_from_a_misspelling(key, hint):
    assert complaint("ppo", assignments=[f"{key}=1"]).endswith(hint)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("learning_rate", "did you mean actor.lr or critic.lr?"),
        ("critic.learning_rate", "did you mean critic.lr?"),
        ("lr", "did you mean actor.lr or critic.lr?"),
        ("batchsize", "did you mean rollout.prompts_per_step?"),
        ("beta", "did you mean algorithm.kl_in_reward or algorithm.kl_loss?"),
        ("entropy_coeff", "did you mean algorithm.entropy_bonus?"),
        ("xyzzy", "keys here: run, model, "),
    ],
)
def test_a_key_by_another_name_leads_to_it(key, hint):
    assert f"unknown key {key} (--set); {hint}" in complaint("ppo", assignments=[f"{key}=1"])
