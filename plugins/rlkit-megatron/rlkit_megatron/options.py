"""Options of the `megatron` actor backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from rlkit.config import PluginOptions
from rlkit_megatron.layout import check_adapter, check_model, check_processes

Count = Annotated[int, Field(ge=1)]


class MegatronOptions(PluginOptions):
    """How a model is spread over the processes: tensor_parallel x pipeline_parallel of them hold one copy of it, and as many copies as there are such groups share the rows. The numbers do not depend on it, up to rounding."""

    tensor_parallel: Count = 1
    """Processes that every matrix is cut over. Divides the attention heads, the key-value heads and the width of the MLPs. Costs several messages a layer: keep it inside one node."""
    sequence_parallel: bool = True
    """With tensor_parallel above 1: norms and residuals are cut along the tokens over the same processes. Less memory, the same traffic."""
    pipeline_parallel: Count = 1
    """Processes that the layers are cut over, in stages. Divides the number of layers. A mini-batch needs more micro-batches than stages to keep them all busy."""
    virtual_pipeline: Count = 1
    """Parts of the model in each stage, interleaved: more messages, shorter idle times. Above 1 it needs pipeline_parallel of at least 2, and pipeline_parallel x virtual_pipeline divides the number of layers."""
    expert_parallel: Count = 1
    """Processes that the experts of a mixture are cut over; these are processes of different copies of the model, so it divides their number. Also divides the number of experts."""
    context_parallel: Count = 1
    """Processes that long rows are cut over. Only 1 is implemented: megatron-core cuts rows with Transformer Engine only."""
    transformer_engine: bool = True
    """Use Transformer Engine's layers where the package can be imported and the model is on a GPU. False: always megatron-core's own layers with torch's attention."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.context_parallel > 1:
            raise ValueError(
                f"context_parallel = {self.context_parallel} is not implemented (megatron-core needs Transformer Engine "
                "for it); set it to 1 and spread long rows with tensor_parallel and sequence_parallel"
            )
        if self.virtual_pipeline > 1 and self.pipeline_parallel == 1:
            raise ValueError(
                f"virtual_pipeline = {self.virtual_pipeline} interleaves the stages of a pipeline, but "
                "pipeline_parallel = 1; set pipeline_parallel to 2 or more, or virtual_pipeline to 1"
            )
        if self.expert_parallel > 1 and self.tensor_parallel > 1 and not self.sequence_parallel:
            raise ValueError(
                f"expert_parallel = {self.expert_parallel} with tensor_parallel = {self.tensor_parallel} needs "
                "sequence_parallel = true"
            )
        return self

    @property
    def processes_of_a_copy(self) -> int:
        """That hold one copy of a model."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def cuts_tokens(self) -> bool:
        """Whether norms and residuals are cut along the tokens."""
        return self.sequence_parallel and self.tensor_parallel > 1

    def rows_shared_by(self, processes: int) -> int:
        """How many parts the rows of a batch are split into on so many processes."""
        return max(1, processes // self.processes_of_a_copy)

    def check(self, model: Mapping[str, Any], *, processes: int, family: str = "auto", adapter_rank: int = 0) -> None:
        """Raises `ConfigError` or `ModelError` when a model (the content of its config.json), its adapter or the number of
        processes does not fit; by the name that rlkit knows, before anything is started."""
        from rlkit_megatron.architecture import check_architecture

        check_adapter(adapter_rank)
        check_processes(self, processes)
        check_model(model, self)
        check_architecture(model, family=family)
