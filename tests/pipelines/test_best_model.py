"""What becomes of the best validated step: its file, the run's record of it, and its export."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rlkit.config.runs import PPOConfig
from rlkit.pipelines.best_model import (
    BEST_FILE,
    best_note,
    export_best,
    loss_subject,
    take_up_record,
    tell_best,
    validation_subject,
)
from rlkit.testing.fakes import fake_prompts
from rlkit.tracking.checkpoints import CheckpointStore, verify_checkpoint
from rlkit.tracking.loss_record import LossRecord, ValidationLoss
from rlkit.tracking.run_folder import NOTICE, RunFolder
from rlkit.tracking.validation_record import ValidationRecord, ValidationScore
from rlkit.types import PromptBatch, Ragged, SupervisedBatch


def score(step: int, value: float) -> ValidationScore:
    return ValidationScore(step, value, value - 0.1, value + 0.1, prompts=20)


@pytest.fixture
def record() -> ValidationRecord:
    """Step 4 was the best, step 6 is the newest."""
    return ValidationRecord("subject", score(0, 0.2), score(4, 0.8), score(4, 0.8), score(6, 0.5))


@pytest.fixture
def store(tmp_path: Path, record: ValidationRecord) -> CheckpointStore:
    """Checkpoints of steps 4 and 6, each with a model that names its step."""
    made = CheckpointStore(tmp_path / "checkpoints", keep=2)
    for step in (4, 6):

        def fill(folder: Path, step: int = step) -> None:
            for name, text in best_note(record, step=step).items():
                (folder / name).write_text(text)
            (folder / "model").mkdir()
            (folder / "model" / "config.json").write_text(str(step))

        made.write(step, fill)
    return made


def damage(store: CheckpointStore, step: int) -> None:
    (store.path(step) / "model" / "config.json").unlink()


class TestTakingUp:
    def test_a_whole_best_checkpoint_stays_the_best(self, record, store):
        take_up_record(record, "subject", store, step=6, best_is_kept=True)
        assert record.best_step == 4

    def test_a_damaged_best_is_passed_over_with_a_message(self, record, store, caplog):
        damage(store, 4)
        take_up_record(record, "subject", store, step=6, best_is_kept=True)
        assert record.best_step == 6
        assert "step_000004 lacks model/config.json; the best step is chosen without it" in caplog.text

    def test_the_last_validation_replaces_it_only_where_its_step_is_saved(self, record, store):
        damage(store, 4)
        record.last = score(5, 0.5)
        take_up_record(record, "subject", store, step=6, best_is_kept=True)
        assert record.best is None

    def test_a_best_that_is_not_kept_stays_what_it_is(self, record, store, caplog):
        damage(store, 4)
        take_up_record(record, "subject", store, step=6, best_is_kept=False)
        assert (record.best_step, caplog.text) == (4, "")

    def test_scores_of_another_validation_are_not_compared(self, record, store, caplog):
        take_up_record(record, "another", store, step=6, best_is_kept=True)
        assert record == ValidationRecord("another")
        assert "the validation differs" in caplog.text

    def test_a_new_run_notes_its_subject_without_a_word(self, store, caplog):
        fresh = ValidationRecord()
        take_up_record(fresh, "subject", store, step=0, best_is_kept=True)
        assert (fresh.subject, caplog.text) == ("subject", "")


class TestSubject:
    def config(self, **sections: object) -> PPOConfig:
        return PPOConfig.model_validate(sections)

    def test_it_stays_the_same_for_what_does_not_matter(self):
        first = validation_subject(self.config(), fake_prompts(2))
        assert first == validation_subject(self.config(trainer={"steps": 9}, actor={"lr": 0.1}), fake_prompts(2))

    @pytest.mark.parametrize("sections", [{"validation": {"temperature": 0.5}}, {"reward": {"functions": ["length"]}}])
    def test_it_changes_with_the_sampling_and_the_reward(self, sections):
        assert validation_subject(self.config(**sections), fake_prompts(2)) != validation_subject(
            self.config(), fake_prompts(2)
        )

    def test_it_changes_with_the_longest_answer_wherever_that_is_set(self):
        settings = ({}, {"rollout": {"max_response_tokens": 9}}, {"validation": {"max_response_tokens": 8}})
        assert len({validation_subject(self.config(**sections), fake_prompts(2)) for sections in settings}) == 3

    def test_it_changes_with_the_prompts_and_their_references(self):
        prompts = fake_prompts(2)
        other = PromptBatch(tuple(replace(prompt, reference="left") for prompt in prompts.prompts), prompts.token_ids)
        subjects = {validation_subject(self.config(), batch) for batch in (prompts, other, fake_prompts(3))}
        assert len(subjects) == 3


class TestTelling:
    def test_only_the_best_checkpoint_says_why_it_is_kept(self, store):
        content = json.loads((store.path(4) / BEST_FILE).read_text())
        assert content["best"]["step"] == 4
        assert content["others"]["start"]["against_best"] == "worse"
        assert not (store.path(6) / BEST_FILE).exists()
        verify_checkpoint(store.path(4))

    def test_log_and_run_json_name_the_best_step(self, record, tmp_path, caplog):
        folder = RunFolder(tmp_path)
        with caplog.at_level(logging.INFO, logger="rlkit"):
            tell_best(record, folder)
        assert [(entry.levelno, entry.message[:39]) for entry in caplog.records] == [
            (NOTICE, "best validation 0.800 (0.700 to 0.900) ")
        ]
        assert folder.read()["validation"]["best"]["step"] == 4

    def test_without_a_validation_nothing_is_said(self, tmp_path, caplog):
        tell_best(ValidationRecord(), RunFolder(tmp_path))
        assert not caplog.records
        assert not list(tmp_path.iterdir())


class TestExport:
    def exported(self, target: Path) -> str | None:
        return (target / "config.json").read_text() if target.exists() else None

    def test_the_model_of_the_best_step_replaces_the_one_that_is_there(self, record, store, tmp_path):
        target = tmp_path / "model"
        target.mkdir()
        (target / "old").touch()
        assert export_best(record, store, target)
        assert self.exported(target) == "4"
        assert not (target / "old").exists()

    @pytest.mark.parametrize("spoil", [damage, lambda store, step: None])
    def test_without_a_whole_best_nothing_is_exported_and_a_warning_says_so(
        self, record, store, tmp_path, caplog, spoil: Callable[[CheckpointStore, int], None]
    ):
        spoil(store, 4)
        if spoil is not damage:
            record.best = None
        assert not export_best(record, store, tmp_path / "model")
        assert self.exported(tmp_path / "model") is None
        assert "the last step is exported" in caplog.text


def test_validation_losses_on_other_tokens_are_of_another_subject():
    def batch(rows, masks):
        return SupervisedBatch(Ragged.from_rows(rows), Ragged.from_rows(masks))

    first = batch([[1, 2], [3]], [[False, True], [False]])
    assert loss_subject(first) == loss_subject(batch([[1, 2], [3]], [[False, True], [False]]))
    others = [
        batch([[1, 2], [4]], [[False, True], [False]]),
        batch([[1], [2, 3]], [[False], [True, False]]),
        batch([[1, 2], [3]], [[False, False], [False]]),
    ]
    assert len({loss_subject(first), *map(loss_subject, others)}) == 4


def test_a_damaged_best_of_fine_tuning_is_passed_over(store, caplog):
    record = LossRecord("subject", ValidationLoss(4, 0.5), ValidationLoss(6, 0.7))
    damage(store, 4)
    take_up_record(record, "subject", store, step=6, best_is_kept=True)
    assert record.best_step == 6
    assert "the best step is chosen without it" in caplog.text
    take_up_record(record, "another", store, step=6, best_is_kept=True)
    assert record == LossRecord("another")
