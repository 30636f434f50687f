"""Short trainings that can be run in one process and on several ranks, to be compared number by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlkit.types import Experience, Prompt, Ragged, Rollouts, SupervisedBatch

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.protocols import ActorBackend, LoraSettings, ModelRole

CaseKind = Literal["supervised", "ppo", "actor_critic", "moving_reference"]


@dataclass(frozen=True)
class RankCase:
    """One training.

    model     folder of the model
    shares    rows that each rank takes of every batch, out of `rows`; the only rank of one process takes all
    rows      prompt and response lengths
    has_critic  of a ppo case; without one its advantages are the returns
    load_from, save_to   folders of the models' state, before the first step and after the last
    """

    kind: CaseKind
    model: Path
    shares: tuple[tuple[int, ...], ...]
    rows: tuple[tuple[int, int], ...] = ((3, 5), (1, 2), (7, 1), (2, 9), (4, 4), (5, 6))
    backend: str = "fsdp"
    options: Mapping[str, Any] = field(default_factory=dict)
    micro_batch_tokens: int = 8192
    gradient_checkpointing: bool = False
    lora: LoraSettings | None = None
    has_critic: bool = True
    dtype: str = "float32"
    first_step: int = 0
    steps: int = 20
    load_from: Path | None = None
    save_to: Path | None = None

    @property
    def seeds(self) -> range:
        """One for each step's tokens."""
        return range(self.first_step, self.first_step + self.steps)


@dataclass(frozen=True)
class RankRecord:
    """metrics of every step; weights and log_probs after the last one (log_probs of this rank's rows)."""

    metrics: list[dict[str, float]]
    weights: dict[str, Tensor]
    outputs: list[Tensor]


def build_backend(case: RankCase) -> ActorBackend:
    from rlkit.plugin import PluginKind
    from rlkit.plugin.loader import load_plugin
    from rlkit.testing.contract import ContractContext

    plugin = load_plugin(PluginKind.ACTOR_BACKEND, case.backend)
    backend: ActorBackend = ContractContext(plugin, Path(), case.options).build()
    return backend


def case_role(case: RankCase, *, trained: bool = True) -> ModelRole:
    """A role on the CPU; a large eps keeps Adam's steps proportional to the gradient, rounding included."""
    from rlkit.models.registry import find_family
    from rlkit.protocols.actor import ModelRole, OptimizerSettings

    optimizer = OptimizerSettings(1e-3, 0.01, (0.9, 0.99), 1e-2, 1.0, "cosine", 2, 50, 0.1)
    return ModelRole(
        path=case.model,
        family=find_family(case.model),
        dtype=case.dtype,
        device="cpu",
        micro_batch_tokens=case.micro_batch_tokens,
        gradient_checkpointing=case.gradient_checkpointing,
        trust_remote_code=False,
        seed=0,
        optimizer=optimizer if trained else None,
        lora=case.lora if trained else None,
    )


def rows_of_this_rank(case: RankCase) -> list[int]:
    import torch.distributed as dist

    if not dist.is_initialized() or dist.get_world_size() == 1:  # a backend may have made a group of one
        return list(range(len(case.rows)))
    return list(case.shares[dist.get_rank()])


def case_rollouts(case: RankCase, seed: int) -> Rollouts:
    """All rows; other tokens for each seed."""
    import torch

    from rlkit.models.shape import read_shape

    vocabulary = read_shape(case.model).vocab_size
    generator = torch.Generator().manual_seed(seed)
    prompts, responses = (
        Ragged.from_rows([torch.randint(vocabulary, (lengths[side],), generator=generator) for lengths in case.rows])
        for side in (0, 1)
    )
    count = len(case.rows)
    return Rollouts(
        prompt_ids=prompts,
        response_ids=responses,
        response_mask=responses.with_values(torch.ones(responses.num_tokens, dtype=torch.bool)),
        rollout_log_probs=None,
        group_ids=torch.arange(count),
        finish_reasons=tuple("length" for _ in range(count)),
        policy_version=0,
        prompts=tuple(Prompt(row_id=row, text="?") for row in range(count)),
    )


def case_conversations(case: RankCase, seed: int) -> SupervisedBatch:
    """The rollouts of that seed as conversations."""
    rollouts = case_rollouts(case, seed)
    pairs = zip(rollouts.prompt_ids.rows(), rollouts.response_ids.rows(), strict=True)
    rows = [(*prompt.tolist(), *response.tolist()) for prompt, response in pairs]
    masks = [[False] * prompt + [True] * response for prompt, response in case.rows]
    return SupervisedBatch(Ragged.from_rows(rows), Ragged.from_rows(masks))


def train(case: RankCase) -> RankRecord:
    """Run the case on this rank."""
    return {
        "supervised": _train_supervised,
        "ppo": _train_ppo,
        "actor_critic": _train_actor_critic,
        "moving_reference": _train_with_moving_reference,
    }[case.kind](case)


def train_all(cases: Sequence[RankCase]) -> list[RankRecord]:
    """Run one case after the other on this rank: processes start once for all of them."""
    return [train(case) for case in cases]


def _train_supervised(case: RankCase) -> RankRecord:
    trainee = build_backend(case).build_supervised(case_role(case))
    mine = rows_of_this_rank(case)
    _restore(case, {"model": trainee})
    metrics: list[dict[str, float]] = []
    for step in case.seeds:
        batch = case_conversations(case, step).select(mine)
        total, count = trainee.evaluate(batch)
        metrics.append({**trainee.update_supervised(batch), "sft/evaluated": total / count})
    _keep(case, {"model": trainee})
    return RankRecord(metrics, _weights(trainee), [])


def _train_ppo(case: RankCase) -> RankRecord:
    from rlkit.testing.backend_cases import value_objective

    backend = build_backend(case)
    actor = backend.build_actor(case_role(case))
    critic = backend.build_critic(case_role(case)) if case.has_critic else None
    reference = actor.base_policy() or backend.build_reference(case_role(case, trained=False))
    models: dict[str, Any] = {"actor": actor} if critic is None else {"actor": actor, "critic": critic}
    _restore(case, models)
    mine = rows_of_this_rank(case)
    metrics: list[dict[str, float]] = []
    for step in case.seeds:
        rollouts = case_rollouts(case, step).select(mine)
        log_probs = actor.compute_log_probs(rollouts, temperature=0.9).log_probs
        zeros = log_probs.with_values(0 * log_probs.values)
        values = zeros if critic is None else critic.compute_values(rollouts)
        experience = replace(
            _experience(case, step, mine, log_probs, values),
            ref_log_probs=reference.compute_log_probs(rollouts, temperature=0.9).log_probs,
        )
        update = dict(actor.update_policy(experience, _policy_objective(), temperature=0.9))
        if critic is not None:
            update |= critic.update_values(experience, value_objective())
        metrics.append(update)
    outputs = [actor.compute_log_probs(rollouts, temperature=1.0).log_probs.values] if case.steps else []
    _keep(case, models)
    weights = {} if critic is None else _prefixed("critic.", _weights(critic))
    return RankRecord(metrics, {**_weights(actor), **weights}, outputs)


def _train_actor_critic(case: RankCase) -> RankRecord:
    from rlkit.algos.joint_objective import JointObjective
    from rlkit.testing.backend_cases import value_objective

    role = case_role(case)
    assert role.optimizer is not None
    model = build_backend(case).build_actor_critic(role, head=replace(role.optimizer, lr=1e-2))
    _restore(case, {"model": model})
    mine = rows_of_this_rank(case)
    metrics: list[dict[str, float]] = []
    for step in case.seeds:
        rollouts = case_rollouts(case, step).select(mine)
        log_probs, values = model.compute_log_probs_and_values(rollouts, temperature=0.9)
        experience = _experience(case, step, mine, log_probs.log_probs, values)
        if step % 4 == 0:
            metrics.append(dict(model.update_head(experience, value_objective())))
            continue
        objective = JointObjective(replace(_policy_objective(), kl_loss=0.0), value_objective(), 0.5)
        metrics.append(dict(model.update_jointly(experience, objective, temperature=0.9)))
    outputs = [model.compute_values(rollouts).values] if case.steps else []
    _keep(case, {"model": model})
    return RankRecord(metrics, _weights(model), outputs)


def _train_with_moving_reference(case: RankCase) -> RankRecord:
    backend = build_backend(case)
    actor = backend.build_actor(case_role(case))
    reference = backend.build_moving_reference(case_role(case, trained=False))
    _restore(case, {"actor": actor, "reference": reference})
    mine = rows_of_this_rank(case)
    metrics: list[dict[str, float]] = []
    for step in case.seeds:
        rollouts = case_rollouts(case, step).select(mine)
        log_probs = actor.compute_log_probs(rollouts, temperature=0.9).log_probs
        zeros = log_probs.with_values(0 * log_probs.values)
        experience = replace(
            _experience(case, step, mine, log_probs, zeros),
            ref_log_probs=reference.compute_log_probs(rollouts, temperature=0.9).log_probs,
        )
        metrics.append(dict(actor.update_policy(experience, _policy_objective(), temperature=0.9)))
        reference.update_weights(actor.export_weights(), decay=0.0 if step == 0 else 0.5)
    outputs = [reference.compute_log_probs(rollouts, temperature=1.0).log_probs.values] if case.steps else []
    _keep(case, {"actor": actor, "reference": reference})
    return RankRecord(metrics, _weights(actor), outputs)


def _experience(case: RankCase, seed: int, mine: list[int], log_probs: Ragged, values: Ragged) -> Experience:
    """This rank's rows, with returns that are made up and advantages that follow from them."""
    import torch

    rollouts = case_rollouts(case, seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    tokens = rollouts.response_ids.num_tokens
    mask = torch.rand(tokens, generator=generator) > 0.1
    returns = rollouts.response_ids.with_values(torch.randn(tokens, generator=generator)).select(mine)
    noise = rollouts.response_ids.with_values(0.2 * torch.randn(tokens, generator=generator)).select(mine)
    loss_mask = rollouts.response_mask.with_values(mask).select(mine)
    advantages = torch.where(loss_mask.values, returns.values - values.values, 0.0)
    return Experience(
        rollouts=rollouts.select(mine),
        old_log_probs=log_probs.with_values(log_probs.values + noise.values),
        advantages=returns.with_values(advantages),
        loss_mask=loss_mask,
        returns=returns,
        old_values=values,
    )


def _policy_objective() -> Any:
    from rlkit.testing.backend_cases import policy_objective

    return replace(policy_objective(entropy_bonus=0.01), kl_loss=0.1)


def _restore(case: RankCase, models: Mapping[str, Any]) -> None:
    if case.load_from is not None:
        for name, model in models.items():
            model.load(case.load_from / name)


def _keep(case: RankCase, models: Mapping[str, Any]) -> None:
    if case.save_to is None:
        return
    for name, model in models.items():
        folder = case.save_to / name
        folder.mkdir(parents=True, exist_ok=True)
        model.save(folder)


def _weights(model: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.export_weights()}


def _prefixed(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


def save_while_training(case: RankCase) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The supervised model's weights when a save in the background began, and after the training that went on."""
    trainee = build_backend(case).build_supervised(case_role(case))
    mine = rows_of_this_rank(case)
    trainee.update_supervised(case_conversations(case, 0).select(mine))
    before = _weights(trainee)
    assert case.save_to is not None
    folder = case.save_to / "model"
    folder.mkdir(parents=True, exist_ok=True)
    pending = trainee.begin_save(folder)
    for step in case.seeds:
        trainee.update_supervised(case_conversations(case, 1 + step).select(mine))
    pending.wait()
    return before, _weights(trainee)


@dataclass(frozen=True)
class BuiltModel:
    """What a rank holds of a trained model after building it, and the most that it ever had of tensors until then.

    parameter_bytes         of this rank's parts
    peak_bytes              of all memory that torch gave out for tensors at a time, from before building
    largest_gathered_bytes  of the largest tensor that `export_weights` gave
    weights                 what it gave
    """

    parameter_bytes: int
    peak_bytes: int
    largest_gathered_bytes: int
    weights: dict[str, Tensor]


def peak_bytes(recording: Any) -> int:
    """The most that torch gave out for tensors at a time, above what it began with, while a profile with memory ran."""
    held = peak = 0
    events = recording.profiler.kineto_results.events()
    for event in sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def measure_build(case: RankCase) -> BuiltModel:
    """Build the supervised model of the case."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    backend, role = build_backend(case), case_role(case)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recording:
        trainee: Any = backend.build_supervised(role)
    parts = [part.to_local() if hasattr(part, "to_local") else part for part in trainee.root.parameters()]
    weights = _weights(trainee)
    return BuiltModel(
        parameter_bytes=sum(part.numel() * part.element_size() for part in parts if isinstance(part, torch.Tensor)),
        peak_bytes=peak_bytes(recording),
        largest_gathered_bytes=max(weight.numel() * weight.element_size() for weight in weights.values()),
        weights=weights,
    )
