"""In which order rows are used: every row once an epoch, the same order for the same seed, resumable anywhere."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlkit.errors import CheckpointError


class EpochOrder:
    """An endless stream of row numbers. A batch may span the end of an epoch; the cursor is (epoch, position).

    The permutation of epoch `e` depends on `seed` and `e` alone, so a cursor is all that a checkpoint needs.
    """

    def __init__(self, num_rows: int, *, seed: int, shuffle: bool = True) -> None:
        if num_rows < 1:
            raise ValueError(f"an order needs at least one row, got {num_rows}")
        self.num_rows = num_rows
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0
        self.position = 0
        self._order = self._permutation(0)

    @property
    def epochs_done(self) -> float:
        """Epochs gone by, the begun one counted in parts: 1.5 is half way through the second."""
        return self.epoch + self.position / self.num_rows

    def take(self, count: int) -> list[int]:
        """The next `count` row numbers."""
        taken: list[int] = []
        while len(taken) < count:
            chunk = self._order[self.position : self.position + count - len(taken)]
            taken.extend(chunk.tolist())
            self.position += len(chunk)
            if self.position == self.num_rows:
                self.epoch += 1
                self.position = 0
                self._order = self._permutation(self.epoch)
        return taken

    def state(self) -> dict[str, int | bool]:
        """The cursor, with what it is valid for, as plain JSON values."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "num_rows": self.num_rows,
            "seed": self.seed,
            "shuffle": self.shuffle,
        }

    def restore(self, state: Mapping[str, int | bool]) -> None:
        """Go on where `state` was taken.

        Raises `CheckpointError` when it was taken from other data, another seed or another shuffle setting.
        """
        for name, own in (("num_rows", self.num_rows), ("seed", self.seed), ("shuffle", self.shuffle)):
            if state[name] != own:
                raise CheckpointError(
                    f"the checkpoint's data order has {name} = {state[name]}, this run has {own}; "
                    "resume with the same data and seed, or start a new run"
                )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self._order = self._permutation(self.epoch)

    @classmethod
    def from_state(cls, state: Mapping[str, int | bool]) -> EpochOrder:
        """The order that `state` was taken from, at its cursor."""
        order = cls(int(state["num_rows"]), seed=int(state["seed"]), shuffle=bool(state["shuffle"]))
        order.restore(state)
        return order

    def _permutation(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        if not self.shuffle:
            return np.arange(self.num_rows, dtype=np.int64)
        return np.random.default_rng([self.seed, epoch]).permutation(self.num_rows).astype(np.int64)
