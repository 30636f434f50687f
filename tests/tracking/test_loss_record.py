"""Which validation loss is the best."""

from __future__ import annotations

import json
import math

from rlkit.tracking.loss_record import LossRecord


def record_of(losses: dict[int, float]) -> LossRecord:
    record = LossRecord("subject")
    for step, loss in losses.items():
        record.note(step, loss)
    return record


def test_the_lowest_loss_is_the_best_and_the_earliest_of_equal_ones():
    record = LossRecord()
    assert [record.note(step, loss) for step, loss in ((2, 1.5), (4, 1.7), (6, 1.2), (8, 1.2))] == [
        True,
        False,
        True,
        False,
    ]
    assert (record.best_step, record.covers(8), record.covers(6)) == (6, True, False)


def test_a_loss_that_is_no_number_is_never_the_best():
    assert record_of({1: math.nan}).best is None
    assert record_of({1: math.nan, 2: 3.0, 3: math.nan, 4: math.inf}).best_step == 2


def test_it_survives_a_checkpoint():
    record, restored = record_of({2: 1.0, 4: 2.0}), LossRecord()
    restored.restore(json.loads(json.dumps(record.as_json())))
    assert restored == record


def test_a_lost_best_is_replaced_by_the_newest_only_where_that_is_the_step_at_hand():
    at_hand, elsewhere = record_of({2: 1.0, 4: 2.0}), record_of({2: 1.0, 4: 2.0})
    at_hand.drop_best(4)
    elsewhere.drop_best(5)
    assert (at_hand.best_step, elsewhere.best_step) == (4, None)


def test_the_sentence_names_both_steps():
    assert record_of({60: 1.2034, 80: 1.25}).sentence() == (
        "best validation loss 1.2034 at step 60; the last, at step 80, has 1.2500"
    )
    assert record_of({60: 1.2034}).sentence() == "best validation loss 1.2034 at step 60, the last"
    assert LossRecord().sentence() == ""


def test_the_description_holds_the_last_only_where_it_is_another():
    assert record_of({2: 1.0}).describe() == {"best": {"step": 2, "loss": 1.0}, "others": {}}
    assert record_of({2: 1.0, 4: 2.0}).describe()["others"] == {"last": {"step": 4, "loss": 2.0}}
    assert LossRecord().describe() == {}
