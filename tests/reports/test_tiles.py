"""The few numbers on top."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlkit.reports.run_data import read_run
from rlkit.reports.tiles import Tile, build_tiles

MakeRun = Callable[..., Path]


def tiles_of(folder: Path) -> dict[str, Tile]:
    return {tile.label: tile for tile in build_tiles(read_run(folder))}


def test_validation_goes_from_the_first_to_the_last_with_both_intervals(make_run: MakeRun) -> None:
    scores = {
        step: {"validation/score": v, "validation/score_low": v - 0.1} for step, v in ((0, 0.2), (5, 0.9), (9, 0.6))
    }
    tile = tiles_of(make_run(validations=scores))["Validation score"]
    assert (tile.before, tile.now, tile.low, tile.high, tile.note) == (0.2, 0.6, 0.5, None, "step 0 to 9")


def test_a_best_validation_that_is_not_the_last_has_a_tile(make_run: MakeRun) -> None:
    def scores(*values: float) -> dict[int, dict[str, float]]:
        bounded = [
            {"validation/score": v, "validation/score_low": v - 0.1, "validation/score_high": v + 0.1} for v in values
        ]
        return {2 * at: {**bounds, "validation/prompts": 9.0} for at, bounds in enumerate(bounded)}

    tile = tiles_of(make_run(validations=scores(0.2, 0.8, 0.6)))["Best validation score"]
    assert (tile.now, tile.low, tile.note) == (0.8, 0.8 - 0.1, "at step 2")
    assert "Best validation score" not in tiles_of(make_run(name="b", validations=scores(0.2, 0.6, 0.8)))


def test_a_single_validation_claims_no_change(make_run: MakeRun) -> None:
    tile = tiles_of(make_run(validations={0: {"validation/score": 0.2}}))["Validation score"]
    assert (tile.before, tile.note) == (None, "after step 0")


def test_noisy_rewards_are_averaged_over_the_ends_of_a_long_run(make_run: MakeRun) -> None:
    rewards = [1.0, 0.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 2.0]
    tile = tiles_of(make_run(steps={at + 1: {"reward/mean": value} for at, value in enumerate(rewards)}))["Reward"]
    assert (tile.before, tile.now) == (0.2, 0.4)


def test_a_short_run_compares_its_first_and_last_step(make_run: MakeRun) -> None:
    tile = tiles_of(make_run(steps={1: {"reward/mean": 0.1}, 2: {"reward/mean": 0.7}}))["Reward"]
    assert (tile.before, tile.now, tile.note) == (0.1, 0.7, "first to last step")


def test_the_only_step_is_named(make_run: MakeRun) -> None:
    tile = tiles_of(make_run(steps={7: {"reward/mean": 0.1}}))["Reward"]
    assert (tile.before, tile.now, tile.note) == (None, 0.1, "after step 7")


def test_the_typical_step_is_the_median_one(make_run: MakeRun) -> None:
    seconds = {1: 90.0, 2: 2.0, 3: 3.0}
    assert tiles_of(make_run(steps={s: {"time/step_s": v} for s, v in seconds.items()}))["Step"].now == 3.0


def test_the_use_of_the_device_says_when_its_peak_was_measured(make_run: MakeRun) -> None:
    def tile(measured: float, name: str) -> Tile:
        steps = {1: {"perf/mfu": 0.4, "perf/peak_is_measured": measured}}
        return tiles_of(make_run(name=name, steps=steps))["Device use (MFU)"]

    measured, known = tile(1.0, "cpu"), tile(0.0, "gpu")
    assert (measured.now, measured.unit, measured.note) == (0.4, "share", "median, of a measured peak")
    assert known.note == "median"
