"""Regular expressions of the config, and what they mean in words."""

from __future__ import annotations

RUN_NAME = r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$"
CLUSTER_ADDRESS = r"^(auto|[A-Za-z0-9._-]+:\d{1,5})?$"
DEVICE = r"^(auto|cpu|cuda|cuda:\d+)$"

IN_WORDS = {
    RUN_NAME: "letters, digits, dot, dash and underscore, a letter or digit first",
    CLUSTER_ADDRESS: "auto or host:port",
    DEVICE: "auto, cpu, cuda or cuda:N",
}


def pattern_text(pattern: str) -> str:
    """`of the form auto, cpu, cuda or cuda:N`, or the pattern as it is."""
    return f"of the form {IN_WORDS[pattern]}" if pattern in IN_WORDS else f"matching `{pattern}`"
