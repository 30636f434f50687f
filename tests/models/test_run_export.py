from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rlkit.errors import CheckpointError, ModelError
from rlkit.models.run_export import find_exported
from rlkit.tracking.checkpoints import CheckpointStore


def fill(*, adapter: bool = False, best: bool = False) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name in ("model", "state"):
            (folder / name).mkdir(parents=True)
        (folder / "model" / "config.json").write_text("{}")
        (folder / "model" / "model.safetensors").write_text("weights")
        (folder / "state" / "moments").write_text("moments")
        if adapter:
            (folder / "adapter").mkdir()
            (folder / "adapter" / "adapter_config.json").write_text("{}")
        if best:
            (folder / "best.json").write_text("{}")

    return write


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints of steps 2, 4 (the best), 6 and 8."""
    store = CheckpointStore(tmp_path / "run" / "checkpoints", keep=9)
    for step in (2, 4, 6, 8):
        store.write(step, fill(best=step in (2, 4)))
    return tmp_path / "run"


def checkpoint(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step_{step:06d}"


def damage(folder: Path, name: str = "model/model.safetensors") -> None:
    (folder / name).write_text("weightz")


class TestOfARun:
    def test_the_finished_model_comes_first(self, run):
        (run / "model").mkdir()
        (run / "model" / "config.json").touch()
        assert find_exported(run) == run / "model"

    def test_before_that_the_newest_checkpoint(self, run):
        assert find_exported(run) == checkpoint(run, 8) / "model"

    @pytest.mark.parametrize(("step", "found"), [("last", 8), ("best", 4), ("2", 2), ("000006", 6)])
    def test_a_step_may_be_chosen(self, run, step, found):
        (run / "model").mkdir()
        (run / "model" / "config.json").touch()
        assert find_exported(run, step=step) == checkpoint(run, found) / "model"

    def test_a_step_that_is_not_there_is_refused_with_those_that_are(self, run):
        with pytest.raises(ModelError, match="no checkpoint of step 5; there are: 2, 4, 6, 8, best, last"):
            find_exported(run, step="5")

    def test_a_run_without_a_best_one_says_what_it_takes(self, run):
        for step in (2, 4):
            (checkpoint(run, step) / "best.json").unlink()
        with pytest.raises(ModelError, match=r"marked as the best one; it takes validations and trainer\.keep_best"):
            find_exported(run, step="best")

    def test_the_newest_one_is_passed_over_when_it_is_damaged(self, run, caplog):
        damage(checkpoint(run, 8))
        assert find_exported(run, step="last") == checkpoint(run, 6) / "model"
        assert "step_000008: model/model.safetensors is damaged" in caplog.text

    @pytest.mark.parametrize("step", ["4", "best"])
    def test_one_that_was_asked_for_is_refused_when_it_is_damaged(self, run, step):
        damage(checkpoint(run, 4))
        with pytest.raises(CheckpointError, match=r"model/model\.safetensors is damaged"):
            find_exported(run, step=step)

    def test_damage_beside_the_model_does_no_harm(self, run):
        damage(checkpoint(run, 4), "state/moments")
        assert find_exported(run, step="4") == checkpoint(run, 4) / "model"

    def test_a_run_whose_checkpoints_are_all_damaged_has_no_model(self, run):
        for step in (2, 4, 6, 8):
            damage(checkpoint(run, step))
        with pytest.raises(ModelError, match="has no checkpoint with a whole model"):
            find_exported(run)


class TestOfAFolder:
    def test_a_model_folder_is_itself(self, run):
        assert find_exported(checkpoint(run, 4) / "model") == checkpoint(run, 4) / "model"

    def test_a_checkpoint_is_verified(self, run):
        assert find_exported(checkpoint(run, 4)) == checkpoint(run, 4) / "model"
        damage(checkpoint(run, 4))
        with pytest.raises(CheckpointError, match="is damaged"):
            find_exported(checkpoint(run, 4))

    def test_a_checkpoint_under_another_name_is_as_good(self, run, tmp_path):
        moved = checkpoint(run, 4).rename(tmp_path / "mine")
        assert find_exported(moved) == moved / "model"

    def test_it_has_no_steps(self, run):
        with pytest.raises(ModelError, match="is no run folder, so it has no step 4"):
            find_exported(checkpoint(run, 4), step="4")


class TestAdapters:
    def test_they_are_found_like_models(self, tmp_path):
        store = CheckpointStore(tmp_path / "checkpoints")
        store.write(3, fill(adapter=True, best=True))
        expected = store.path(3) / "adapter"
        for step in ("", "last", "best", "3"):
            assert find_exported(tmp_path, step=step, part="adapter") == expected
        for folder in (expected, store.path(3)):
            assert find_exported(folder, part="adapter") == expected

    @pytest.mark.parametrize("step", ["", "4"])
    def test_a_run_without_one_says_so(self, run, step):
        with pytest.raises(ModelError, match=r"holds no adapter; only runs with lora\.rank above 0"):
            find_exported(run, step=step, part="adapter")
