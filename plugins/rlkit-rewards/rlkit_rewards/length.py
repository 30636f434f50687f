"""Long answers cost something."""

from __future__ import annotations

from collections.abc import Sequence

from rlkit.types import Reward, Sample
from rlkit_rewards.options import LengthOptions


class Length:
    """A penalty between -`penalty` and 0. Part: length, in the chosen unit."""

    judges_apart = True

    def __init__(self, options: LengthOptions) -> None:
        self.options = options

    def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        lengths = [self._length(sample) for sample in samples]
        return [Reward(-self.options.penalty * self._excess(length), {"length": float(length)}) for length in lengths]

    def _length(self, sample: Sample) -> int:
        if self.options.unit == "characters":
            return len(sample.response)
        if sample.num_response_tokens == 0 and sample.response:
            raise ValueError("the answer carries no token count; set reward.options.length.unit = characters")
        return sample.num_response_tokens

    def _excess(self, length: int) -> float:
        options = self.options
        match options.mode:
            case "overlong":
                return overlong_excess(length, options.max_length, options.buffer)
            case "target":
                return min(1.0, abs(length - options.target_length) / options.target_length)
            case _:
                return min(1.0, length / options.max_length)


def overlong_excess(length: int, max_length: int, buffer: int) -> float:
    """DAPO's soft overlong punishment without its sign, in [0, 1] (Yu et al. 2025, arXiv:2503.14476, eq. 13).

    0 up to max_length - buffer, (length - (max_length - buffer)) / buffer in the buffer, 1 above max_length.
    """
    return min(1.0, max(0.0, (length - (max_length - buffer)) / buffer))
