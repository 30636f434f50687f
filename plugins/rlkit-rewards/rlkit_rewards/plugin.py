"""What the distribution offers, as strings: nothing is imported here."""

from __future__ import annotations

from dataclasses import replace

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
multiple_choice = _spec(
    "multiple_choice", "MultipleChoice", "1 when the answer chooses what the reference does: (B), B., or its text"
)
json_schema = replace(
    _spec("json_schema", "JSONSchema", "1 when the answer is JSON that follows a schema"),
    requires=("jsonschema",),
    install_hint="pip install 'rlkit-rewards[json-schema]'",
)
by_data_source = _spec("by_data_source", "ByDataSource", "the reward that goes with the row's data_source, as in verl")
code = replace(
    _spec("code", "Code", "1 when the program in the answer passes its tests, run in a sandbox"),
    config="rlkit_rewards.code_options:CodeOptions",
)
length = _spec("length", "Length", "penalty for long answers: DAPO's soft limit, a target length, or brevity")


def _spec_elsewhere(module: str, name: str, summary: str, *requires: str) -> PluginSpec:
    return PluginSpec(
        kind=PluginKind.REWARD_FUNCTION,
        target=f"rlkit_rewards.{module}:{name}",
        config=f"rlkit_rewards.remote_options:{name}Options",
        summary=summary,
        requires=requires,
        install_hint="pip install 'rlkit-rewards[remote]'",
    )


http = _spec_elsewhere("http", "HTTP", "what your own HTTP endpoint answers", "httpx")
judge = _spec_elsewhere("judge", "Judge", "the verdict of an LLM behind any OpenAI-compatible endpoint", "httpx")
reward_model = _spec_elsewhere(
    "reward_model", "RewardModel", "the number that a sequence classifier gives the conversation"
)
