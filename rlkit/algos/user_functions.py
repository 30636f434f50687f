"""From a loaded plugin to an estimator or a loss: an object, or a plain function as people write it in a file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from torch import Tensor

from rlkit.algos.advantages.estimators import AdvantageInputs, Estimates, Estimator
from rlkit.algos.masked import where_mask
from rlkit.algos.policy_losses.token_losses import PolicyLoss, SelectingLoss, TokenLosses
from rlkit.errors import BrokenPluginError, ConfigError, TrainingError
from rlkit.plugin.loader import LoadedPlugin, construct
from rlkit.plugin.references import describe_error


@dataclass(frozen=True)
class FunctionEstimator:
    """`function(inputs, **options)` -> advantages [B, R], or the pair of them and the critic's targets."""

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, inputs: AdvantageInputs) -> Estimates:
        """Both zero outside the mask, whatever the function left there. Raises `TrainingError` for another shape."""
        found = self.function(inputs, **self.options)
        advantages, returns = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        for what, values in (("advantages", advantages), ("returns", returns)):
            if values is not None or what == "advantages":
                _check_shape(values, inputs.mask, f"advantage estimator '{self.name}'", what)
        return where_mask(advantages, inputs.mask), None if returns is None else where_mask(returns, inputs.mask)


@dataclass(frozen=True)
class FunctionLoss:
    """`function(log_probs, old_log_probs, advantages, mask, **options)` -> losses [B, R], or `TokenLosses`."""

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> TokenLosses:
        """See `PolicyLoss`. Raises `TrainingError` for another shape: a mean would change with the micro-batches; and for
        losses that teach nothing."""
        found = self.function(log_probs, old_log_probs, advantages, mask, **self.options)
        token = found if isinstance(found, TokenLosses) else TokenLosses(found, {})
        _check_shape(token.losses, mask, f"policy loss '{self.name}'", "losses")
        if log_probs.requires_grad and not token.losses.requires_grad:
            raise TrainingError(f"policy loss '{self.name}' gave losses without a gradient; make them of log_probs")
        return token


ESTIMATOR_ARGUMENTS = 1
"""Arguments that rlkit gives to an estimator; what it takes beyond them are its options."""
LOSS_ARGUMENTS = 4
"""As ESTIMATOR_ARGUMENTS, for a policy loss."""
SELECTING_ARGUMENTS = 5
"""As LOSS_ARGUMENTS, for a loss that selects tokens: its choice is the fifth."""


def make_estimator(plugin: LoadedPlugin, options: Mapping[str, Any], *, where: str) -> Estimator:
    """`where` is the config path of the options. Raises `ConfigError` for options that the estimator does not have."""
    found, keywords = construct(plugin, options, where=where)
    _check_callable(found, plugin)
    _check_call(found, keywords, ESTIMATOR_ARGUMENTS, where=where, plugin=plugin)
    return FunctionEstimator(plugin.name, found, keywords)


def make_policy_loss(plugin: LoadedPlugin, options: Mapping[str, Any], *, where: str) -> PolicyLoss:
    """As `make_estimator`, for a loss."""
    found, keywords = construct(plugin, options, where=where)
    _check_callable(found, plugin)
    if isinstance(found, SelectingLoss):
        if keywords:
            option = next(iter(keywords))
            raise ConfigError(
                f"{where}.{option} cannot reach '{plugin.name}': a loss that selects tokens has options by an options "
                "class only, as a plugin"
            )
        _check_call(found, {}, SELECTING_ARGUMENTS, where=where, plugin=plugin)
        return found
    _check_call(found, keywords, LOSS_ARGUMENTS, where=where, plugin=plugin)
    return FunctionLoss(plugin.name, found, keywords)


def _check_callable(found: object, plugin: LoadedPlugin) -> None:
    if not callable(found):
        raise BrokenPluginError(
            f"{plugin.kind.label} '{plugin.name}' is a {type(found).__name__}, which cannot be called"
        )


def _check_call(
    function: Callable[..., Any], options: Mapping[str, Any], given: int, *, where: str, plugin: LoadedPlugin
) -> None:
    """Raises `ConfigError` for an option that is no parameter of `function` after the first `given`, or for one that it
    lacks, and `BrokenPluginError` when it does not take `given` arguments."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C: it tells when it is called
        return
    parameters = list(signature.parameters.values())
    free = parameters[given:]
    _check_keywords(free, options, parameters, where=where, name=plugin.name)
    absent = [
        parameter.name
        for parameter in free
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in options
    ]
    if absent:
        raise ConfigError(f"{where}.{absent[0]} is missing: {plugin.kind.label} '{plugin.name}' has no default for it")
    try:
        signature.bind(*range(given), **options)
    except TypeError as error:
        raise BrokenPluginError(
            f"{plugin.kind.label} '{plugin.name}' cannot be called with {given} argument{'s' if given > 1 else ''}, as "
            f"rlkit does: {describe_error(error)}"
        ) from error


def _check_keywords(
    free: Sequence[inspect.Parameter],
    options: Mapping[str, Any],
    parameters: Sequence[inspect.Parameter],
    *,
    where: str,
    name: str,
) -> None:
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    names = [parameter.name for parameter in free if parameter.kind is not parameter.VAR_POSITIONAL]
    for option in options:
        if option not in names:
            near = get_close_matches(option, names, n=1)
            hint = f"; did you mean {where}.{near[0]}?" if near else f"; options: {', '.join(names) or '(none)'}"
            raise ConfigError(f"unknown key {where}.{option}: '{name}' has no such option{hint}")


def _check_shape(values: object, mask: Tensor, title: str, what: str) -> None:
    if not isinstance(values, Tensor):
        raise TrainingError(
            f"{title} gave {what} of type {type(values).__name__}; wanted a tensor of shape {list(mask.shape)}"
        )
    if values.shape != mask.shape:
        raise TrainingError(
            f"{title} gave {what} of shape {list(values.shape)}; wanted one number for each token: {list(mask.shape)}"
        )
