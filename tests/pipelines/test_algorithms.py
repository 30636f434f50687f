"""Estimators and losses by name, from plugins and from files, and what a run must provide for them."""

from __future__ import annotations

import pytest
import torch

from rlkit.algos.advantages.estimators import AdvantageInputs
from rlkit.algos.policy_losses.clip_cov import ClipCov
from rlkit.config.algorithm import AlgorithmSection
from rlkit.config.load import load_config
from rlkit.errors import BrokenPluginError, ConfigError, PluginNotFoundError, TrainingError
from rlkit.pipelines.algorithms import build_estimator, build_policy_loss, check_algorithm, needs_of
from rlkit.plugin import PluginKind
from rlkit.plugin.discovery import plugin_names
from rlkit.plugin.loader import load_spec

MINE = """
import torch

def centred(inputs, *, scale=1.0):
    scores = torch.where(inputs.mask, inputs.token_rewards, 0.0).sum(dim=1)
    return scale * (scores - scores.mean())[:, None].expand(inputs.mask.shape)
centred.needs = ("groups",)

def with_critic(inputs):
    return inputs.token_rewards - inputs.values, inputs.token_rewards
with_critic.needs = ("critic",)

def plain(log_probs, old_log_probs, advantages, mask, *, weight=1.0):
    return -weight * advantages * torch.exp(log_probs - old_log_probs)
plain.aggregations = ("token_mean",)

class Plain:
    has_ratio = False

    def __call__(self, log_probs, old_log_probs, advantages, mask):
        return -advantages * log_probs

def mean_of_all(log_probs, old_log_probs, advantages, mask):
    return -(advantages * log_probs).mean()

def number(inputs):
    return 0.5

def wishful(inputs):
    return inputs.token_rewards
wishful.needs = ("oracle",)

A_NUMBER = 3

def unteachable(log_probs, old_log_probs, advantages, mask):
    return -(advantages * log_probs).detach()

def too_few(log_probs, old_log_probs, advantages):
    return -advantages * log_probs

def demanding(log_probs, old_log_probs, advantages, mask, strength):
    return -strength * advantages * log_probs

def vague(inputs):
    return inputs.token_rewards
vague.needs = 3

class Made:
    def __init__(self, strength):
        self.strength = strength

    def __call__(self, log_probs, old_log_probs, advantages, mask):
        return -self.strength * advantages * log_probs

class Choosing:
    def select(self, log_probs, old_log_probs, advantages, mask):
        return mask

    def __call__(self, log_probs, old_log_probs, advantages, mask, selected=None, strength=1.0):
        return -strength * advantages * log_probs
"""


@pytest.fixture
def mine(tmp_path):
    """The name of an object in a file of the user's."""
    (tmp_path / "mine.py").write_text(MINE)
    return lambda attribute: f"{tmp_path / 'mine.py'}:{attribute}"


def ppo(*assignments):
    return load_config("ppo", assignments=assignments).config


def inputs():
    mask = torch.tensor([[True, True], [True, False]])
    rewards = torch.tensor([[0.0, 1.0], [0.0, float("nan")]])
    return AdvantageInputs(rewards, mask, torch.tensor([0, 0]), torch.zeros(2, 2), torch.full((2, 2), 0.25))


def test_an_estimator_in_a_file_has_the_standing_of_a_plugin(mine):
    estimate = build_estimator(AlgorithmSection(advantage=mine("centred"), advantage_options={"scale": 2.0}))
    advantages, returns = estimate(inputs())
    assert advantages.tolist() == [[1.0, 1.0], [-1.0, 0.0]]  # zero outside the mask, whatever the function left there
    assert returns is None


def test_what_an_estimator_in_a_file_needs_is_provided(mine):
    assert needs_of(ppo(f"algorithm.advantage={mine('with_critic')}")).critic
    assert not needs_of(ppo(f"algorithm.advantage={mine('centred')}")).critic
    _, returns = build_estimator(AlgorithmSection(advantage=mine("with_critic")))(inputs())
    assert returns.tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_a_loss_in_a_file_is_a_function_or_a_class(mine):
    log_probs, old, ones = torch.full((1, 2), -1.0), torch.full((1, 2), -1.0), torch.ones(1, 2)
    made = build_policy_loss(AlgorithmSection(policy_loss=mine("plain"), policy_loss_options={"weight": 3.0}))
    assert made(log_probs, old, ones, ones.bool()).losses.tolist() == [[-3.0, -3.0]]
    made = build_policy_loss(AlgorithmSection(policy_loss=mine("Plain")))
    assert made(log_probs, old, ones, ones.bool()).losses.tolist() == [[1.0, 1.0]]


def test_options_of_the_built_in_ones_reach_them():
    assert build_policy_loss(AlgorithmSection(policy_loss="ppo_clip")).function.clip_high == 0.2
    chosen = AlgorithmSection(policy_loss="ppo_clip", policy_loss_options={"clip_high": 0.28})
    assert build_policy_loss(chosen).function.clip_high == 0.28
    assert isinstance(build_policy_loss(AlgorithmSection(policy_loss="clip_cov")), ClipCov)
    far = inputs().values * 4
    discounted = build_estimator(AlgorithmSection(advantage="gae", advantage_options={"gamma": 0.5, "whiten": False}))
    plain = build_estimator(AlgorithmSection(advantage="gae", advantage_options={"whiten": False}))
    given = AdvantageInputs(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), inputs().mask, inputs().group_ids, far, far)
    assert plain(given)[0].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert discounted(given)[0].tolist() == [[-0.5, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("section", "error", "text"),
    [
        ({"advantage": "grop"}, PluginNotFoundError, "Did you mean 'grpo'?"),
        ({"policy_loss": "ppo"}, PluginNotFoundError, "Did you mean 'ppo_clip'?"),
        (
            {"policy_loss_options": {"clip_hihg": 0.3}},
            ConfigError,
            "unknown key algorithm.policy_loss_options.clip_hihg; did you mean algorithm.policy_loss_options.clip_high?",
        ),
        ({"policy_loss_options": {"dual_clip": 0.5}}, ConfigError, "dual_clip = 0.5: must be greater than 1"),
        ({"advantage_options": {"lam": 2}}, ConfigError, "algorithm.advantage_options.lam = 2: must be"),
        (
            {"advantage": "grpo", "advantage_options": {"lam": 0.9}},
            ConfigError,
            "unknown key algorithm.advantage_options.lam: 'grpo' has no such option; options: (none)",
        ),
    ],
)
def test_wrong_names_and_options_are_told_in_one_line(section, error, text):
    with pytest.raises(error) as caught:
        made = AlgorithmSection(**section)
        build_estimator(made)
        build_policy_loss(made)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_option_that_a_function_does_not_take_is_refused(mine):
    with pytest.raises(
        ConfigError, match=r"advantage_options.scael: .* did you mean algorithm.advantage_options.scale"
    ):
        check_algorithm(ppo(f"algorithm.advantage={mine('centred')}", "algorithm.advantage_options.scael=2"))
    with pytest.raises(ConfigError, match=r"policy_loss_options.wieght: .* did you mean .*weight"):
        check_algorithm(ppo(f"algorithm.policy_loss={mine('plain')}", "algorithm.policy_loss_options.wieght=2"))


def test_faults_in_a_file_are_told_by_name(mine):
    with pytest.raises(
        TrainingError, match=r"mean_of_all' gave losses of shape \[\]; wanted one number for each token"
    ):
        ones = torch.ones(1, 2)
        build_policy_loss(AlgorithmSection(policy_loss=mine("mean_of_all")))(ones, ones, ones, ones.bool())
    with pytest.raises(TrainingError, match="number' gave advantages of type float"):
        build_estimator(AlgorithmSection(advantage=mine("number")))(inputs())
    with pytest.raises(BrokenPluginError, match="needs oracle, which is not one of critic, groups"):
        needs_of(ppo(f"algorithm.advantage={mine('wishful')}"))
    with pytest.raises(BrokenPluginError, match="is a int, which cannot be called"):
        build_estimator(AlgorithmSection(advantage=mine("A_NUMBER")))


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        (("algorithm.policy_loss={too_few}",), BrokenPluginError, "cannot be called with 4 arguments, as rlkit does"),
        (("algorithm.policy_loss={demanding}",), ConfigError, "algorithm.policy_loss_options.strength is missing"),
        (("algorithm.policy_loss={Made}",), BrokenPluginError, "cannot be made without arguments: TypeError"),
        (("algorithm.advantage={vague}",), BrokenPluginError, "its needs must be a tuple of words, got 3"),
        (
            ("algorithm.policy_loss={Choosing}", "algorithm.policy_loss_options.strength=3"),
            ConfigError,
            "algorithm.policy_loss_options.strength cannot reach",
        ),
        (
            ("algorithm.policy_loss={Choosing}", "algorithm.policy_loss_options.selected=3"),
            ConfigError,
            "algorithm.policy_loss_options.selected cannot reach",
        ),
    ],
)
def test_what_could_not_be_called_is_refused_before_the_run(mine, settings, error, text):
    names = {name: mine(name) for name in ("too_few", "demanding", "Made", "vague", "Choosing")}
    with pytest.raises(error) as caught:
        check_algorithm(ppo(*(setting.format(**names) for setting in settings)))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_can_be_called_is_not_refused(mine):
    check_algorithm(ppo(f"algorithm.policy_loss={mine('Choosing')}"))
    check_algorithm(ppo(f"algorithm.policy_loss={mine('demanding')}", "algorithm.policy_loss_options.strength=2"))


def test_losses_without_a_gradient_are_told_by_name(mine):
    ones = torch.ones(1, 2)
    loss = build_policy_loss(AlgorithmSection(policy_loss=mine("unteachable")))
    with pytest.raises(TrainingError, match="unteachable' gave losses without a gradient; make them of log_probs"):
        loss(torch.zeros(1, 2, requires_grad=True), ones, ones, ones.bool())


def test_a_warm_up_that_leaves_the_actor_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"critic.warmup_iterations = 4 leaves the actor none of the 4 iterations"):
        check_algorithm(ppo("critic.warmup_iterations=4", "trainer.steps=4"))
    check_algorithm(ppo("critic.warmup_iterations=3", "trainer.steps=4"))
    check_algorithm(ppo("critic.warmup_iterations=4", "trainer.steps=4", "algorithm.advantage=grpo"))


def test_a_kl_horizon_that_could_turn_the_penalty_into_a_reward_is_refused():
    settings = ("algorithm.kl_in_reward=0.1", "algorithm.kl_target=5", "rollout.prompts_per_step=16")  # 64 answers
    with pytest.raises(ConfigError, match=r"algorithm.kl_horizon = 12 is so short that the 64 answers"):
        check_algorithm(ppo(*settings, "algorithm.kl_horizon=12"))
    check_algorithm(ppo(*settings, "algorithm.kl_horizon=13"))


@pytest.mark.parametrize("name", plugin_names(PluginKind.ADVANTAGE_ESTIMATOR))
def test_estimators_that_compare_answers_refuse_a_single_one(name):
    config = ppo(f"algorithm.advantage={name}", "rollout.samples_per_prompt=1")
    if "groups" in load_spec(PluginKind.ADVANTAGE_ESTIMATOR, name).needs:
        with pytest.raises(ConfigError, match=f"{name} compares the answers to one prompt: .* at least 2, got 1"):
            check_algorithm(config)
    else:
        check_algorithm(config)


def test_an_estimator_of_the_parts_refuses_a_penalty_that_would_not_reach_them():
    with pytest.raises(ConfigError, match=r"gdpo compares the scores .* use algorithm.kl_loss"):
        check_algorithm(ppo("algorithm.advantage=gdpo", "algorithm.kl_in_reward=0.1"))


@pytest.mark.parametrize(
    "shaping",
    [
        ("reward.clip=[0.0, 1.0]",),
        ("reward.normalise=batch",),
        ("reward.overlong_buffer_tokens=8", "reward.overlong_penalty=0.5"),
    ],
)
def test_an_estimator_of_the_parts_refuses_shaping_of_their_sum(shaping):
    with pytest.raises(ConfigError, match="advantage = gdpo compares the scores of the reward functions, which reward"):
        check_algorithm(ppo("algorithm.advantage=gdpo", *shaping))
    check_algorithm(ppo("algorithm.advantage=grpo", *shaping))


def test_a_loss_says_which_aggregations_go_with_it(mine):
    with pytest.raises(
        ConfigError, match=r"gmpo needs algorithm.loss_aggregation = seq_mean_token_mean, got token_mean"
    ):
        check_algorithm(ppo("algorithm.policy_loss=gmpo"))
    with pytest.raises(ConfigError, match=r"needs algorithm.loss_aggregation = token_mean, got token_sum"):
        check_algorithm(ppo(f"algorithm.policy_loss={mine('plain')}", "algorithm.loss_aggregation=token_sum"))
    check_algorithm(ppo("algorithm.policy_loss=gmpo", "algorithm.loss_aggregation=seq_mean_token_mean"))


def test_a_shared_trunk_without_anybody_to_read_its_values_is_refused():
    made = load_config("ppo", assignments=["critic.shared_trunk=true", "algorithm.advantage=grpo"], environ={}).config
    with pytest.raises(
        ConfigError, match=r"critic\.shared_trunk = true, but algorithm\.advantage = grpo reads no values"
    ):
        check_algorithm(made)


def test_squared_probabilities_are_asked_for_by_those_who_read_them_and_need_the_actors_pass():
    config = ppo("algorithm.advantage=optimal_token_baseline", "rollout.samples_per_prompt=4")
    check_algorithm(config)
    assert needs_of(config).probability_squares
    assert not needs_of(ppo("algorithm.advantage=grpo")).probability_squares
    with pytest.raises(
        ConfigError, match=r"optimal_token_baseline reads .* rollout_correction.bypass = true .* drop bypass"
    ):
        check_algorithm(
            ppo(
                "algorithm.advantage=optimal_token_baseline",
                "rollout.samples_per_prompt=4",
                "rollout_correction.bypass=true",
            )
        )


def test_weights_are_not_counted_twice(mine):
    """In bypass mode the ratio of the loss is that to the engine's policy already."""
    weighted = ("rollout_correction.preset=bypass_pg_seq_tis",)
    check_algorithm(ppo(*weighted))
    for loss in ("ppo_clip", mine("plain")):
        with pytest.raises(ConfigError, match="importance_weights would count it twice; drop them, or set"):
            check_algorithm(ppo(*weighted, f"algorithm.policy_loss={loss}"))
    check_algorithm(ppo(*weighted, f"algorithm.policy_loss={mine('Plain')}"))


@pytest.mark.parametrize("name", plugin_names(PluginKind.ADVANTAGE_ESTIMATOR))
def test_dynamic_sampling_is_for_estimators_that_compare_answers(name):
    """The others learn from prompts with equal rewards too: to replace them would reweight the data silently."""
    config = ppo(f"algorithm.advantage={name}", "algorithm.sampling_rounds=3")
    if "groups" in load_spec(PluginKind.ADVANTAGE_ESTIMATOR, name).needs:
        check_algorithm(config)
    else:
        with pytest.raises(ConfigError, match=f"sampling_rounds = 3 .* algorithm.advantage = {name} does learn"):
            check_algorithm(config)


def test_an_aggregation_that_does_not_exist_is_told(mine, tmp_path):
    (tmp_path / "odd.py").write_text("def odd(n, o, a, mask):\n    return -a * n\nodd.aggregations = ('token_men',)\n")
    with pytest.raises(ConfigError, match="goes with the aggregation token_men, which does not exist"):
        check_algorithm(ppo(f"algorithm.policy_loss={tmp_path / 'odd.py'}:odd"))
