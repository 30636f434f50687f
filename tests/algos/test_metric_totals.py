from __future__ import annotations

import torch

from rlkit.algos.metric_totals import MetricTotals


def test_metrics_of_all_micro_batches_are_added_up_by_name():
    totals = MetricTotals()
    weight = torch.tensor(2.0, requires_grad=True)
    totals.add({"actor/loss": weight * 0.25, "actor/entropy": torch.tensor(1.0, dtype=torch.bfloat16)})
    totals.add({"actor/loss": weight * 0.5, "actor/clip_fraction": torch.tensor(0.125)})
    assert totals.read() == {"actor/loss": 1.5, "actor/entropy": 1.0, "actor/clip_fraction": 0.125}


def test_no_micro_batch_gives_no_metric():
    assert MetricTotals().read() == {}
