"""Task files of our own, with local data, and a model on which their numbers are not all the same."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlkit.testing.tiny_model import write_tiny_model

CHOICES = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}} Answer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
  - {{metric: mcc, aggregation: matthews_corrcoef, higher_is_better: true}}
"""
ANSWERS = """
task: tiny_generate
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}} "
doc_to_target: "{{{{expected}}}}"
generation_kwargs: {{until: ["8", "\\n"], max_gen_toks: 12, do_sample: false}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""
ROLLING = """
task: tiny_rolling
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - {{metric: word_perplexity, aggregation: weighted_perplexity}}
  - {{metric: bits_per_byte, aggregation: bits_per_byte}}
"""
DOCUMENTS = 24


@pytest.fixture(scope="session")
def harness_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "model", seed=3)


@pytest.fixture(scope="module")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`tiny_choice`, `tiny_generate` and `tiny_rolling`; no hub is asked, and nothing is cached outside the test."""
    folder = tmp_path_factory.mktemp("tasks")
    before = {name: os.environ.get(name) for name in ("HF_DATASETS_CACHE", "HF_HUB_OFFLINE")}
    os.environ.update(HF_DATASETS_CACHE=str(folder / "cache"), HF_HUB_OFFLINE="1")
    words = ["cat", "dog", "sun", "a longer answer", "zebra", "no", "maybe", "12"]
    documents = [
        {
            "question": f"{number}+{number * 7 % 5}=",
            "choices": [words[(number + shift) % len(words)] for shift in range(4)],
            "answer": number % 4,
            "expected": "1",
            "text": " ".join(words[(number * step) % len(words)] for step in range(1, 4 + number % 9)),
        }
        for number in range(DOCUMENTS)
    ]
    data = folder / "documents.jsonl"
    data.write_text("".join(json.dumps(document) + "\n" for document in documents))
    for name, text in (("choice", CHOICES), ("generate", ANSWERS), ("rolling", ROLLING)):
        (folder / f"{name}.yaml").write_text(text.format(data=data))
    yield folder
    for name, value in before.items():
        if value is None:
            os.environ.pop(name)
        else:
            os.environ[name] = value
