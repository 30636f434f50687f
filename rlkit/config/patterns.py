"""Regular expressions of the config, and what they mean in words."""

from __future__ import annotations

RUN_NAME = r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$"
DEVICE = r"^(auto|cpu|cuda|cuda:\d+)$"

IN_WORDS = {
    RUN_NAME: "letters, digits, dot, dash and underscore, with a letter or digit first",
    DEVICE: "auto, cpu, cuda or cuda:N",
}


def pattern_text(pattern: str) -> str:
    """The pattern in words, or as it is."""
    return IN_WORDS.get(pattern, f"matching `{pattern}`")
