"""Ready-made settings of rollout correction, by the names that the field has for them.

A preset stands for the keys that it lists; a key that is set anywhere else wins over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

PresetName = Literal[
    "none",
    "token_tis",
    "seq_tis",
    "token_icepop",
    "seq_mis",
    "geo_rs",
    "geo_rs_token_tis",
    "geo_rs_seq_tis",
    "k3_rs",
    "k3_rs_token_tis",
    "k3_rs_seq_tis",
    "bypass",
    "bypass_geo_rs",
    "bypass_k3_rs",
    "bypass_pg_token_icepop",
    "bypass_pg_seq_tis",
    "bypass_pg_geo_rs",
    "bypass_pg_geo_rs_token_tis",
    "bypass_pg_geo_rs_seq_tis",
]

_SECTION = "rollout_correction"
_TOKEN_TIS = {"importance_weights": "token", "weight_high": 2.0}
_SEQ_TIS = {"importance_weights": "sequence", "weight_high": 2.0}
_TOKEN_ICEPOP = {"importance_weights": "token", "outside": "zero", "weight_low": 0.5, "weight_high": 5.0}
_GEO_RS = {"reject": ("seq_mean_k1 0.999 1.001",)}
_K3_RS = {"reject": ("seq_mean_k3 0.01",)}


def _preset(*parts: Mapping[str, Any], policy_loss: str = "") -> dict[str, Any]:
    """Dotted key -> value."""
    own = {f"{_SECTION}.{name}": value for part in parts for name, value in part.items()}
    return {**own, **({"algorithm.policy_loss": policy_loss} if policy_loss else {})}


_BYPASS = {"bypass": True}
CORRECTION_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "token_tis": _preset(_TOKEN_TIS),
    "seq_tis": _preset(_SEQ_TIS),
    "token_icepop": _preset(_TOKEN_ICEPOP),
    "seq_mis": _preset(_SEQ_TIS, {"reject": ("seq_sum_k1 0.5 2.0",)}),
    "geo_rs": _preset(_GEO_RS),
    "geo_rs_token_tis": _preset(_GEO_RS, _TOKEN_TIS),
    "geo_rs_seq_tis": _preset(_GEO_RS, _SEQ_TIS),
    "k3_rs": _preset(_K3_RS),
    "k3_rs_token_tis": _preset(_K3_RS, _TOKEN_TIS),
    "k3_rs_seq_tis": _preset(_K3_RS, _SEQ_TIS),
    "bypass": _preset(_BYPASS),
    "bypass_geo_rs": _preset(_BYPASS, _GEO_RS),
    "bypass_k3_rs": _preset(_BYPASS, _K3_RS),
    "bypass_pg_token_icepop": _preset(_BYPASS, _TOKEN_ICEPOP, policy_loss="gpg"),
    "bypass_pg_seq_tis": _preset(_BYPASS, _SEQ_TIS, policy_loss="gpg"),
    "bypass_pg_geo_rs": _preset(_BYPASS, _GEO_RS, policy_loss="gpg"),
    "bypass_pg_geo_rs_token_tis": _preset(_BYPASS, _GEO_RS, _TOKEN_TIS, policy_loss="gpg"),
    "bypass_pg_geo_rs_seq_tis": _preset(_BYPASS, _GEO_RS, _SEQ_TIS, policy_loss="gpg"),
}
"""Preset -> dotted key -> value. Sources of the values: docs/algorithms.md."""


def preset_keys(name: object) -> Mapping[str, Any]:
    """Dotted key -> value of a preset; empty for what is no preset's name, which validation then complains about."""
    return CORRECTION_PRESETS.get(name, {}) if isinstance(name, str) else {}


def fill_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """A run's nested `values`, with the preset's keys where they have none. Sections that are objects already stay as they are."""
    filled = dict(values)
    correction = filled.get(_SECTION, {})
    name = correction.get("preset") if isinstance(correction, Mapping) else getattr(correction, "preset", None)
    for key, value in preset_keys(name).items():
        section, _, leaf = key.partition(".")
        own = filled.get(section, {})
        if isinstance(own, Mapping):
            filled[section] = {leaf: value, **own}
    return filled
