"""A sequence classifier that gives numbers to whole token sequences: a reward model.

    rows of tokens  ->  batches of similar length  ->  backbone, without padding where that gives the same numbers
                    ->  its head on one position of each row  ->  [labels] numbers for each row

The position is the one that transformers reads: the last token that is not the padding token of the model's config.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlkit.errors import ModelError
from rlkit.models.packed import PackedLayout, packed_forward, use_packed_attention
from rlkit.models.packed_agreement import TOLERANCES, relative_difference

LOGGER = logging.getLogger("rlkit")

PROBE_LENGTHS = (9, 6)
"""Two rows; the second notices anything that runs on from the first."""


class TokenRow(NamedTuple):
    """One sequence. type_ids: 0 for a first text and 1 for a second, where the tokenizer tells them apart."""

    token_ids: tuple[int, ...]
    type_ids: tuple[int, ...] | None = None


def score_batches(rows: Sequence[TokenRow], max_tokens: int) -> list[list[int]]:
    """Row numbers in batches of similar length, the longest first; rows times the longest is at most `max_tokens`.

    A row that is longer by itself is a batch of its own. The batches depend on the lengths only, so the same rows get the
    same numbers wherever they are computed.
    """
    batches: list[list[int]] = []
    for row in sorted(range(len(rows)), key=lambda row: -len(rows[row].token_ids)):
        if batches and (len(batches[-1]) + 1) * len(rows[batches[-1][0]].token_ids) <= max_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


class ScoreModel:
    """A classifier on a device, ready to give numbers."""

    def __init__(self, model: Any, device: str) -> None:
        """model: of one of transformers' `...ForSequenceClassification` classes, with its weights."""
        self._model = model.eval().requires_grad_(False)
        self._device = device
        self._pad_token_id: int | None = model.config.get_text_config().pad_token_id
        self.onload()
        self.is_packed = _switch_to_packed(model, device)

    @torch.no_grad()
    def logits(self, rows: Sequence[TokenRow]) -> list[list[float]]:
        """One number for each label of each row, all rows in one forward pass. No row may be empty."""
        if self.is_packed:
            return self._packed(rows)
        if self._pad_token_id is None:
            # transformers then takes one row at a time and reads its last position.
            return [numbers for row in rows for numbers in self._padded([row], pad=0)]
        return self._padded(rows, self._pad_token_id)

    def onload(self) -> None:
        self._model.to(self._device)

    def offload(self) -> None:
        """Leave the device; `onload` comes before the next `logits`."""
        self._model.to("cpu")
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _packed(self, rows: Sequence[TokenRow]) -> list[list[float]]:
        lengths = [len(row.token_ids) for row in rows]
        hidden = _packed_hidden_states(self._model, [row.token_ids for row in rows], self._device)
        starts = [0, *torch.tensor(lengths).cumsum(0).tolist()[:-1]]
        read_at = [start + self._read_at(row.token_ids) for start, row in zip(starts, rows, strict=True)]
        states = hidden[torch.tensor(read_at, device=hidden.device)]
        # In float32: a head in bfloat16 would round every score to two or three digits.
        numbers: list[list[float]] = nn.functional.linear(states.float(), self._model.score.weight.float()).tolist()
        return numbers

    def _read_at(self, token_ids: Sequence[int]) -> int:
        """The last position that is no padding token; the first where all are, as transformers has it."""
        if self._pad_token_id is None:
            return len(token_ids) - 1
        return next((at for at in reversed(range(len(token_ids))) if token_ids[at] != self._pad_token_id), 0)

    def _padded(self, rows: Sequence[TokenRow], pad: int) -> list[list[float]]:
        longest = max(len(row.token_ids) for row in rows)

        def padded(values: Sequence[int], fill: int) -> list[int]:
            return [*values, *[fill] * (longest - len(values))]

        def tensor(lists: list[list[int]]) -> Tensor:
            return torch.tensor(lists, device=self._device)

        inputs = {
            "input_ids": tensor([padded(row.token_ids, pad) for row in rows]),
            "attention_mask": tensor([padded([1] * len(row.token_ids), 0) for row in rows]),
        }
        if all(row.type_ids is not None for row in rows):
            inputs["token_type_ids"] = tensor([padded(row.type_ids or (), 0) for row in rows])
        numbers: list[list[float]] = self._model(**inputs).logits.float().tolist()
        return numbers


def load_score_model(folder: Path, *, dtype: str, device: str, trust_remote_code: bool = False) -> ScoreModel:
    """The classifier in a folder of safetensors. Raises `ModelError` for a folder whose weights lack the head, or others."""
    from transformers import AutoModelForSequenceClassification

    try:
        with _quietly():
            model, loaded = AutoModelForSequenceClassification.from_pretrained(
                str(folder),
                dtype=getattr(torch, dtype),
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"no sequence classifier can be loaded from '{folder}': {reason}") from error
    missing = sorted(loaded["missing_keys"])
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(
            f"'{folder}' is no trained sequence classifier: its files lack {missing[0]}{more}; give a reward model, such as "
            "TRL's RewardTrainer saves"
        )
    return ScoreModel(model, device)


@contextmanager
def _quietly() -> Iterator[None]:
    """No progress bars, and no reports of what the caller looks at itself."""
    from transformers.utils import logging as reports

    level, bars = reports.get_verbosity(), reports.is_progress_bar_enabled()
    reports.set_verbosity_error()
    reports.disable_progress_bar()
    try:
        yield
    finally:
        reports.set_verbosity(level)
        if bars:
            reports.enable_progress_bar()


def _switch_to_packed(model: Any, device: str) -> bool:
    """Whether the model now runs without padding: a decoder with one linear head, and the same hidden states that way."""
    from transformers.modeling_layers import GenericForSequenceClassification

    if not isinstance(model, GenericForSequenceClassification) or getattr(model.score, "bias", None) is not None:
        return False
    before = model.config._attn_implementation
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    rows = [torch.randint(vocabulary, (length,), generator=generator).tolist() for length in PROBE_LENGTHS]
    reason = "other hidden states"
    with torch.no_grad():
        plain = [
            model.base_model(input_ids=torch.tensor([row], device=device), use_cache=False).last_hidden_state[0]
            for row in rows
        ]
        try:
            use_packed_attention(model)
            difference = relative_difference(torch.cat(plain), _packed_hidden_states(model, rows, device))
        except Exception as error:
            # Architectures refuse in ways of their own, and each of them has the padded pass to fall back on.
            difference, reason = float("nan"), " ".join(str(error).split()) or type(error).__name__
    if difference <= TOLERANCES[model.dtype]:
        return True
    LOGGER.info("reward model %s runs padded (%s when packed)", type(model).__name__, reason)
    model.set_attn_implementation(before)
    return False


def _packed_hidden_states(model: Any, rows: Sequence[Sequence[int]], device: str) -> Tensor:
    """[T, hidden] of all tokens, rows end to end."""
    tokens = torch.tensor([token for row in rows for token in row], device=device)
    return packed_forward(model.base_model, tokens, PackedLayout.of([len(row) for row in rows], device))
