"""What all roles share: building a model from a `ModelRole`, passes over all rows, learning from a mini-batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlkit.algos.aggregation import Denominators
from rlkit.algos.log_probs import TokenStatistics
from rlkit.algos.metric_totals import MetricTotals
from rlkit.algos.objective import ObjectiveShare
from rlkit.data.micro_batches import split_by_tokens
from rlkit.data.silent_rows import silent_experience, silent_rollouts
from rlkit.errors import CheckpointError, ConfigError
from rlkit.models.causal import load_config
from rlkit.models.shape import architecture_of, read_config_json
from rlkit.models.state_files import BackgroundSave, TensorPart, check_is_there
from rlkit.protocols.actor import ModelRole
from rlkit.protocols.family import ModelHead
from rlkit.types import Experience, Ragged, Rollouts
from rlkit_megatron.layout import check_adapter, check_model
from rlkit_megatron.log_probs import sliced_log_probs
from rlkit_megatron.model import ModelPlan, build_parts
from rlkit_megatron.offloading import Offloading
from rlkit_megatron.optimizer import MOMENTS, Optimizer, with_gradient_buffers
from rlkit_megatron.options import MegatronOptions
from rlkit_megatron.packed_rows import PackedRows, pack_rollouts
from rlkit_megatron.parallel import Parallel
from rlkit_megatron.pipeline import LastHiddenStates, Pipeline
from rlkit_megatron.recipes import find_recipe
from rlkit_megatron.saving import ADAPTER, COUNTERS, MOMENTS_FOLDER, WEIGHTS, Counters, State, read_counters
from rlkit_megatron.weights import SpreadWeights, Values

ShareOf = Callable[[LastHiddenStates, Experience, Denominators], ObjectiveShare]
"""The objective of one micro-batch, from the last hidden states."""


class HeldModel:
    """A model with the folder's weights, spread over the processes; frozen, unless it is a `TrainedModel`."""

    head: ModelHead = "causal_lm"

    def __init__(self, role: ModelRole, options: MegatronOptions) -> None:
        """Collective. Raises `ConfigError` and `ModelError` for what cannot be built in this layout."""
        _check_role(role)
        self.role = role
        config = load_config(role.path, trust_remote_code=role.trust_remote_code)
        recipe = find_recipe(role.family, architecture_of(read_config_json(role.path), str(role.path)))
        check_model(config.to_dict(), options)
        self.parallel = Parallel.of_this_process(role.device, options)
        recompute = role.gradient_checkpointing and role.optimizer is not None
        plan = ModelPlan(config, recipe, self.head, getattr(torch, role.dtype), recompute)
        self._vocabulary: int = config.vocab_size
        self.modules = build_parts(plan, self.parallel)
        self.weights = SpreadWeights(self.modules, recipe, config, self.parallel)
        self.pipeline = Pipeline(self._prepared(), self.parallel)
        self._offloading = Offloading(self._kept_tensors, self._dropped_tensors)
        self._take(self.weights.read(role.path))

    def _prepared(self) -> Sequence[Any]:
        """The parts as the schedules run them."""
        for module in self.modules:
            module.requires_grad_(False)
        return self.modules

    @torch.no_grad()
    def _take(self, values: Values) -> None:
        """The weights become these."""
        for parameter, value in values:
            parameter.copy_(value)

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        """One full tensor at a time, in the role's type; collective."""
        with self._on_device():
            yield from self.weights.export()

    def onload(self) -> None:
        self._offloading.onload()

    def offload(self) -> None:
        if self.role.device != "cpu":
            self._offloading.offload()
            torch.cuda.empty_cache()

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Where the model has to be for a moment, and is not if it was away before."""
        was_away = self._offloading.is_away
        self.onload()
        try:
            yield
        finally:
            if was_away:
                self.offload()

    def _kept_tensors(self) -> Iterable[Tensor]:
        return (parameter for module in self.modules for parameter in module.parameters())

    def _dropped_tensors(self) -> Iterable[Tensor]:
        return ()

    @property
    def last_module(self) -> Any:
        """The part that ends the pipeline; only where it is."""
        assert self.parallel.is_last_stage
        return self.modules[-1]

    def statistics(
        self, hidden: LastHiddenStates, temperature: float, *, probability_squares: bool = False
    ) -> TokenStatistics:
        """Log-probs and entropies [N] of the rows' targets under softmax(logits / temperature); on the last stage only."""
        part = self.last_module
        tied = part.share_embeddings_and_output_weights
        weight = part.shared_embedding_or_output_weight() if tied else part.output_layer.weight
        start = weight.shape[0] * self.parallel.tensor_rank
        return sliced_log_probs(
            hidden.for_sliced_head(),
            weight[: self._vocabulary - start],
            hidden.rows.targets,
            start=start,
            group=self.parallel.state.get_tensor_model_parallel_group(),
            temperature=temperature,
            probability_squares=probability_squares,
        )

    def micro_batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Row numbers, as many times as the schedules of all processes want; empty ones at the end. Collective."""
        batches = split_by_tokens(lengths, self.role.micro_batch_tokens) or [[]]
        options = self.parallel.options
        multiple = options.pipeline_parallel if options.virtual_pipeline > 1 else 1
        count = -(-self.parallel.most(len(batches)) // multiple) * multiple
        return [*batches, *([] for _ in range(count - len(batches)))]

    @property
    def token_multiple(self) -> int:
        """Of which the tokens of a pass have to be."""
        return self.parallel.options.tensor_parallel if self.parallel.options.cuts_tokens else 1

    def packed(self, rollouts: Rollouts) -> PackedRows:
        return pack_rollouts(rollouts, self.parallel.device, multiple=self.token_multiple)

    def forward_rows(
        self, rollouts: Rollouts, compute: Callable[[LastHiddenStates], Sequence[Tensor]], *, outputs: int
    ) -> tuple[Ragged, ...]:
        """`compute` gives `outputs` tensors [N] aligned with the response tokens of its rows; here they come for all rows,
        on the CPU. Collective; each process gives and gets the rows of its share."""
        batches = self.micro_batches(row_lengths(rollouts))
        chosen = [rollouts.select(rows) if rows else silent_rollouts(rollouts) for rows in batches]
        packed = [self.packed(part) for part in chosen]
        made = self.pipeline.forward(packed, lambda hidden, _: torch.stack([*compute(hidden)]).float())
        parts: list[list[Ragged]] = []
        for number, (rows, part) in enumerate(zip(batches, chosen, strict=True)):
            shape = (outputs, part.response_ids.num_tokens)
            found = made[number] if made else torch.empty(shape, device=self.parallel.device)
            self.parallel.from_last_stage(found)
            aligned = [part.response_ids.with_values(values) for values in found.cpu()]
            parts.append(aligned if rows else [ragged.select([]) for ragged in aligned])
        position = {row: place for place, row in enumerate(row for rows in batches for row in rows)}
        in_order = [position[row] for row in range(len(rollouts))]
        return tuple(Ragged.concatenate(column).select(in_order) for column in zip(*parts, strict=True))


class TrainedModel(HeldModel):
    """A held model with its optimizer, as every trained role has it."""

    def __init__(self, role: ModelRole, options: MegatronOptions) -> None:
        if role.optimizer is None:
            raise ValueError("a trained role needs optimizer settings")
        super().__init__(role, options)

    def _prepared(self) -> Sequence[Any]:
        assert self.role.optimizer is not None
        parts = with_gradient_buffers(self.modules)
        self.optimizer = Optimizer(parts, self.role.optimizer)
        return parts

    def _take(self, values: Values) -> None:
        self.optimizer.set_masters(values)

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        """One full float32 tensor at a time, of the weights that the optimizer steps; collective."""
        with self._on_device():
            yield from self.weights.export(self.optimizer.master, dtype=torch.float32)

    def learn(self, experience: Experience, share_of: ShareOf, *, trunk: bool = True) -> tuple[dict[str, float], bool]:
        """Add up the gradients of one mini-batch, of which each process has the rows of its share; without `trunk` only
        those of a head outside of the model.

        Returns the metrics of the whole mini-batch, equal on every process, and whether it is without any token to learn
        from.
        """
        local = Denominators.of(experience.loss_mask.padded(False))
        denominators = Denominators(*self.parallel.sums_over_rows((local.tokens, local.sequences)))
        batches = self.micro_batches(row_lengths(experience.rollouts))
        parts = [experience.select(rows) if rows else silent_experience(experience) for rows in batches]
        packed = [self.packed(part.rollouts) for part in parts]
        totals = MetricTotals()

        def compute_loss(hidden: LastHiddenStates, number: int) -> Tensor:
            share = share_of(hidden, parts[number], denominators)
            totals.add(share.metrics)
            return share.loss

        def learn_head(hidden: LastHiddenStates, number: int) -> None:
            with torch.enable_grad():
                compute_loss(hidden, number).backward()  # type: ignore[no-untyped-call]

        if trunk:
            self.pipeline.forward_backward(packed, compute_loss)
        else:
            self.pipeline.forward(packed, learn_head)
        return self.parallel.summed_metrics(totals.read()), denominators.tokens == 0

    def state(self) -> State:
        """Everything that training changes: float32 parameters, moments, counters; this process's slices. Collective."""
        with self._on_device():
            moments: dict[str, TensorPart] = {}
            if self.optimizer.adam_steps:
                for moment in MOMENTS:
                    moments |= self.weights.written_slices(self.optimizer.moments(moment), suffix=f".{moment}")
            weights = self.weights.written_slices(self.optimizer.masters())
        steps = float(self.optimizer.adam_steps)
        counters = {
            "steps_done": self.optimizer.steps_done,
            "steps_skipped": self.optimizer.steps_skipped,
            "parameter_steps": dict.fromkeys(self.weights.owners, steps) if steps else {},
        }
        return State({WEIGHTS: weights, MOMENTS_FOLDER: moments}, {COUNTERS: counters})

    def save(self, folder: Path) -> None:
        self.state().write(folder, self.parallel.rank)

    def begin_save(self, folder: Path) -> BackgroundSave:
        """See `rlkit.protocols.actor.PolicyActor.begin_save`."""
        return self.state().begin_writing(folder, self.parallel.rank)

    def load(self, folder: Path) -> None:
        """From any layout. Raises `CheckpointError` when `folder` holds the state of another model, or an adapter, or is not whole."""
        check_is_there(folder)
        if (folder / ADAPTER).is_dir():
            raise CheckpointError(f"'{folder}' holds an adapter only, which actor backend 'megatron' does not train")
        counters = read_counters(folder)
        with self._on_device():
            self._take(self.weights.restored(folder / WEIGHTS, otherwise="the saved weights are of another model"))
            self._load_moments(folder, counters)
        self.optimizer.steps_done, self.optimizer.steps_skipped = counters.steps_done, counters.steps_skipped

    def _load_moments(self, folder: Path, counters: Counters) -> None:
        steps = max(counters.parameter_steps.values(), default=0.0)
        otherwise = "the optimizer state is of another model"
        values = {
            moment: self.weights.restored(folder / MOMENTS_FOLDER, otherwise=otherwise, suffix=f".{moment}")
            for moment in (MOMENTS if steps else ())
        }
        self.optimizer.set_moments(values, steps)

    def _kept_tensors(self) -> Iterable[Tensor]:
        return self.optimizer.tensors()

    def _dropped_tensors(self) -> Iterable[Tensor]:
        return self.optimizer.gradient_buffers()


def row_lengths(rollouts: Rollouts) -> list[int]:
    """Tokens of each row, prompt and response."""
    lengths: list[int] = (rollouts.prompt_ids.lengths + rollouts.response_ids.lengths).tolist()
    return lengths


def _check_role(role: ModelRole) -> None:
    if role.dtype == "float16":
        raise ConfigError("dtype = float16 is not supported by actor backend 'megatron'; choose bfloat16 or float32")
    check_adapter(role.lora.rank if role.lora is not None else 0)
