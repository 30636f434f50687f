"""What the distribution offers, as strings: nothing is imported here."""

from __future__ import annotations

from rlkit.plugin import PluginKind, PluginSpec


def _spec(module: str, name: str, summary: str) -> PluginSpec:
    return PluginSpec(
        kind=PluginKind.REWARD_FUNCTION,
        target=f"rlkit_rewards.{module}:{name}",
        config=f"rlkit_rewards.options:{name}Options",
        summary=summary,
        install_hint="pip install rlkit-rewards",
    )


exact_match = _spec("exact_match", "ExactMatch", "1 when the answer equals the reference, as text or as a number")
gsm8k = _spec("gsm8k", "GSM8K", "1 when the final number equals that of a GSM8K reference (`#### N`)")
math = _spec("math", "Math", "1 when the final answer (boxed or last) equals the reference: numbers, fractions, LaTeX")
format = _spec("format", "Format", "1 when the answer has the form of a regular expression")
length = _spec("length", "Length", "penalty for long answers: DAPO's soft limit, a target length, or brevity")
