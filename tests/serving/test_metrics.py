from __future__ import annotations

import re

from rlkit.serving.metrics import Histogram, ServerMetrics

SAMPLE = re.compile(r'^[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+-]+$')


def test_every_line_is_one_that_prometheus_reads() -> None:
    metrics = ServerMetrics()
    metrics.http_requests["/v1/models", 200] += 2
    metrics.answers["stop"] += 1
    metrics.request_seconds.add(0.3)
    metrics.count_tokens(12)
    text = metrics.render(in_progress=3, policy_version=5)
    assert text.endswith("\n")
    for line in text.splitlines():
        assert line.startswith(("# HELP rlkit_", "# TYPE rlkit_")) or SAMPLE.match(line), line
    assert 'rlkit_http_requests_total{endpoint="/v1/models",status="200"} 2' in text
    assert "rlkit_answers_in_progress 3" in text
    assert "rlkit_policy_version 5" in text
    assert "rlkit_generated_tokens_total 12" in text


def test_buckets_count_everything_up_to_their_bound() -> None:
    histogram = Histogram()
    for seconds in (0.01, 0.02, 0.4, 10_000.0):
        histogram.add(seconds)
    lines = dict(line.rsplit(" ", 1) for line in histogram.lines("t"))
    assert lines['t_bucket{le="0.01"}'] == "1"
    assert lines['t_bucket{le="0.025"}'] == "2"
    assert lines['t_bucket{le="600"}'] == "3"
    assert lines['t_bucket{le="+Inf"}'] == lines["t_count"] == "4"
    assert float(lines["t_sum"]) == 10_000.43 or lines["t_sum"] == "10000.4"
