"""Counts for Prometheus, in its text format; changed and read in the event loop only."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds of the histograms' buckets."""


class Histogram:
    """Durations in seconds."""

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str) -> Iterator[str]:
        total = 0
        for bound, count in zip((*SECONDS, float("inf")), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{"+Inf" if bound == float("inf") else f"{bound:g}"}"}} {total}'
        yield f"{name}_sum {self._sum:g}"
        yield f"{name}_count {total}"


class ServerMetrics:
    """What has happened since the server started."""

    def __init__(self) -> None:
        self.http_requests: Counter[tuple[str, int]] = Counter()  # (endpoint, status)
        self.answers: Counter[str] = Counter()  # by how they ended
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self.weight_updates = 0
        self.request_seconds = Histogram()
        self.first_token_seconds = Histogram()

    def count_tokens(self, count: int) -> None:
        """Tokens that the engine has sampled, whoever still reads them."""
        self.generated_tokens += count

    def render(self, *, in_progress: int, policy_version: int) -> str:
        """The text that Prometheus reads."""
        answers = {f'{{end="{end}"}}': count for end, count in self.answers.items()}
        lines = self._lines_about_requests(in_progress=in_progress, policy_version=policy_version)
        for name, text, values in (
            ("answers_total", "Answers, by how they ended; unfinished: nobody waited for it any more.", answers),
            ("prompt_tokens_total", "Prompt tokens, once for each answer.", {"": self.prompt_tokens}),
            ("generated_tokens_total", "Tokens sampled.", {"": self.generated_tokens}),
        ):
            lines += _lines(name, "counter", text, values)
        for name, text, histogram in (
            ("request_seconds", "Time from request to the end of all its answers.", self.request_seconds),
            ("first_token_seconds", "Time from request to the first token.", self.first_token_seconds),
        ):
            lines += [
                f"# HELP rlkit_{name} {text}",
                f"# TYPE rlkit_{name} histogram",
                *histogram.lines(f"rlkit_{name}"),
            ]
        return "\n".join(lines) + "\n"

    def render_requests(self, *, in_progress: int, policy_version: int) -> str:
        """What is known in front of an engine's own server, which counts answers and tokens itself."""
        return "\n".join(self._lines_about_requests(in_progress=in_progress, policy_version=policy_version)) + "\n"

    def _lines_about_requests(self, *, in_progress: int, policy_version: int) -> list[str]:
        requests = {f'{{endpoint="{name}",status="{status}"}}': n for (name, status), n in self.http_requests.items()}
        return [
            *_lines("http_requests_total", "counter", "HTTP requests, by endpoint and status.", requests),
            *_lines("answers_in_progress", "gauge", "Answers being made or waiting.", {"": in_progress}),
            *_lines("policy_version", "gauge", "Version of the weights.", {"": policy_version}),
            *_lines("weight_updates_total", "counter", "Weights replaced.", {"": self.weight_updates}),
        ]


def _lines(name: str, kind: str, text: str, values: Mapping[str, int]) -> list[str]:
    """values: by labels"""
    return [
        f"# HELP rlkit_{name} {text}",
        f"# TYPE rlkit_{name} {kind}",
        *(f"rlkit_{name}{labels} {value}" for labels, value in sorted(values.items())),
    ]
