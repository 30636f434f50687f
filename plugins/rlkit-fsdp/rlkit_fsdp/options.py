"""Options of the `fsdp` actor backend."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rlkit.config import PluginOptions
from rlkit_fsdp.pass_size import pass_tokens


class FSDPOptions(PluginOptions):
    """How a model is spread over several processes. The numbers do not depend on it, up to rounding."""

    reshard_after_forward: bool = True
    """Give a layer's gathered weights back after its forward pass and gather them again for the backward pass. False keeps them: less traffic, but every process holds the whole model between the two."""
    cpu_offload: bool = False
    """Keep parameters, gradients and moments in host memory and bring one layer at a time to the device. Saves device memory, costs time. Without an accelerator nothing moves."""
    replicas: Annotated[int, Field(ge=1)] = 1
    """Copies of the sharded model. With 1 it is cut over all processes; with more, over the processes of one copy only (usually one node), and gradients are averaged over the copies. Must divide the number of processes."""
    gather_dtype: Literal["compute", "float32"] = "compute"
    """Type in which a layer's weights travel. compute: the role's `dtype`, half the traffic with bfloat16, and only the weights of norms are rounded more than in one process. float32: as in one process."""
    sync_every_micro_batch: bool = False
    """Average gradients over processes after every micro-batch instead of once a mini-batch. More traffic; but then no process ever holds the gradients of the whole model."""

    def pass_tokens(self, micro_batch_tokens: int, *, device: str, processes: int) -> int:
        """Most tokens of one pass, by the name that `--dry-run` knows."""
        return pass_tokens(micro_batch_tokens, device=device, processes=processes)
