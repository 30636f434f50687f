"""Actor and critic on one network: a value head on the policy's last hidden states."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlkit.algos.aggregation import Denominators
from rlkit.algos.metric_totals import in_area
from rlkit.algos.joint_objective import JointObjective
from rlkit.algos.objective import ObjectiveShare, ValueObjective
from rlkit.algos.packed_objective import policy_share, share_of_packed
from rlkit.protocols.actor import LogProbs, ModelRole, OptimizerSettings
from rlkit.types import Experience, Ragged, Rollouts

from .actor import Actor
from .held_model import learn_rows, token_statistics
from .optimizer import Optimizer


class ActorCritic(Actor):
    """The head is Linear(hidden, 1) in float32, zero at first, with an optimizer of its own."""

    def __init__(self, role: ModelRole, head: OptimizerSettings) -> None:
        super().__init__(role)
        hidden_size = self.module.config.get_text_config().hidden_size
        self.head = nn.Linear(hidden_size, 1, bias=False, dtype=torch.float32, device=role.device)
        nn.init.zeros_(self.head.weight)
        self.head_optimizer = Optimizer(self.head, head)

    @torch.no_grad()
    def compute_values(self, rollouts: Rollouts) -> Ragged:
        rows = [self._values(self._forward(rollouts.select([row]))[1]) for row in range(len(rollouts))]
        return rollouts.response_ids.with_values(torch.cat(rows).cpu())

    @torch.no_grad()
    def compute_log_probs_and_values(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> tuple[LogProbs, Ragged]:
        """Both, from one forward pass."""
        rows: list[tuple[Tensor, ...]] = []
        for index in range(len(rollouts)):
            row = rollouts.select([index])
            logits, hidden = self._forward(row)
            statistics = token_statistics(logits, row.response_ids.values, temperature)
            rows.append((*statistics, self._values(hidden)))
        log_probs, entropy, squares, values = (
            rollouts.response_ids.with_values(torch.cat(column).cpu()) for column in zip(*rows, strict=True)
        )
        return LogProbs(log_probs, entropy, squares if probability_squares else None), values

    def update_jointly(
        self, experience: Experience, objective: JointObjective, *, temperature: float
    ) -> dict[str, float]:
        """One optimizer step of policy and head on one mini-batch."""
        rollouts = experience.rollouts
        experience = objective.prepare(
            experience, lambda: self.compute_log_probs(rollouts, temperature=temperature).log_probs
        )

        def share_of(row: Experience, denominators: Denominators) -> ObjectiveShare:
            logits, hidden = self._forward(row.rollouts)
            log_probs, entropy, _ = token_statistics(logits, row.rollouts.response_ids.values, temperature)
            return policy_share(objective, row, denominators, log_probs, entropy, self._values(hidden))

        metrics, empty = learn_rows(experience, share_of)
        step, head_step = self.optimizer.step(empty=empty), self.head_optimizer.step(empty=empty)
        return {**metrics, **in_area("actor", step), **in_area("critic", head_step)}

    def update_head(self, experience: Experience, objective: ValueObjective) -> dict[str, float]:
        """One optimizer step of the head; the policy keeps its bits."""

        def share_of(row: Experience, denominators: Denominators) -> ObjectiveShare:
            with torch.no_grad():
                _, hidden = self._forward(row.rollouts)
            return share_of_packed(objective, row, denominators, self._values(hidden))

        metrics, empty = learn_rows(experience, share_of)
        return {**metrics, **in_area("critic", self.head_optimizer.step(empty=empty))}

    def save(self, folder: Path) -> None:
        for name in ("policy", "head"):
            (folder / name).mkdir()
        super().save(folder / "policy")
        save_file({"score.weight": self.head.weight.detach().cpu()}, folder / "head" / "score.safetensors")
        self.head_optimizer.save(folder / "head")

    def load(self, folder: Path) -> None:
        super().load(folder / "policy")
        with torch.no_grad():
            self.head.weight.copy_(load_file(folder / "head" / "score.safetensors")["score.weight"])
        self.head_optimizer.load(folder / "head")

    def onload(self) -> None:
        super().onload()
        self.head.to(self.role.device)
        self.head_optimizer.move(self.role.device)

    def offload(self) -> None:
        super().offload()
        self.head.to("cpu")
        self.head_optimizer.move("cpu")

    def _forward(self, row: Rollouts) -> tuple[Tensor, Tensor]:
        """Logits [R, vocabulary] and last hidden states [R, hidden] before each response token of a single row."""
        prompt, response = row.prompt_ids.values, row.response_ids.values
        output = self.run(torch.cat([prompt, response]), output_hidden_states=True)
        before = slice(len(prompt) - 1, -1)
        return output.logits[0, before], output.hidden_states[-1][0, before]

    def _values(self, hidden: Tensor) -> Tensor:
        """[R] float32."""
        values: Tensor = self.head(hidden.float())[:, 0]
        return values
