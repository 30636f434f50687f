"""Do engine and trainer compute the same probabilities? Said once, in words, when they do not.

Nothing else in a run shows it: with a wrong temperature, a mask that is off by one or weights that never arrived, the
policy still learns a little, from answers that it would not have given.
"""

from __future__ import annotations

from collections.abc import Mapping

from rlkit.tracking.run_folder import LOGGER

NORMAL_DIFFERENCE: Mapping[str, float] = {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.05}
"""Mean absolute difference of log-probs, nats a token, that rounding explains. Two correct implementations of a tiny
model differ by 2e-7 in float32, 1e-4 in float16 and 2e-3 in bfloat16; deep models with flat distributions by ten times as
much. There, a forgotten temperature of 0.7 makes 7e-3, and weights that never arrived 6e-2 after one iteration."""

FROM_THE_START = (
    "it was so from the first iteration on: look at the engine's options, the temperature and the model's dtype"
)
SINCE_LATER = "they agreed before: look at what hands the actor's weights to the engine"


class AgreementWatch:
    """Looks at each iteration's rollouts and warns about the first that is beyond `normal`; a run hears it once."""

    def __init__(self, dtype: str = "float32") -> None:
        """dtype of the arithmetic of engine and trainer, as `model.dtype` has it."""
        self.normal = NORMAL_DIFFERENCE[dtype]
        self.dtype = dtype
        self._has_agreed = False
        self._has_warned = False

    def look(self, metrics: Mapping[str, float], *, answered_by: int, trained: int) -> None:
        """metrics: those of `rlkit.trainers.correction`; without them there is nothing to compare.

        answered_by, trained: policy versions of the weights in the engine and of the actor's.
        """
        mean = metrics.get("rollout/log_prob_difference_mean")
        if mean is None or self._has_warned:
            return
        if mean <= self.normal:
            self._has_agreed = True
            return
        # A comparison with NaN is false, so NaN gets here too.
        self._has_warned = True
        LOGGER.warning(
            "engine and trainer disagree about the answers: log-probs differ by %.2g nats a token (normal in %s: below %g), "
            "their probabilities correlate by %.3f; %s",
            mean,
            self.dtype,
            self.normal,
            metrics["rollout/correlation"],
            self._advice(answered_by, trained),
        )

    def _advice(self, answered_by: int, trained: int) -> str:
        if answered_by != trained:
            return f"the engine answered with weights of version {answered_by}, the trainer is at {trained}"
        return SINCE_LATER if self._has_agreed else FROM_THE_START
