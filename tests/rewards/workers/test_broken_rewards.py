"""Whatever a reward function does, in a real process: the others are judged, the fault is named, nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlkit.config.reward_sections import RewardSection
from rlkit.errors import ConfigError, RewardError
from rlkit.rewards.scorer import Scorer, build_scorer
from rlkit.rewards.workers.processes import children_of
from rlkit.types import Prompt, Sample

BROKEN = Path(__file__).with_name("broken_rewards.py")


def make_scorer(*functions: str, **settings: Any) -> Scorer:
    settings = {"on_error": "leave_out", "max_error_fraction": 1.0, "timeout_s": 60.0, "workers": 2, **settings}
    names = tuple(f"{BROKEN}:{function}" for function in functions)
    return build_scorer(RewardSection(functions=names, **settings), seed=1)


def samples(responses: Sequence[str]) -> list[Sample]:
    return [Sample(Prompt(row, text="q", data_source="sums"), response) for row, response in enumerate(responses)]


def surrounded(response: str) -> list[Sample]:
    """The one that breaks something, between ones that do not."""
    return samples(["a", "bb", response, "ccc", "dddd"])


@pytest.mark.parametrize(
    ("response", "kind", "reason"),
    [
        ("raise", "exception", "ValueError: three lines long"),
        ("nan", "value", "returned nan, which is not finite"),
        ("text", "value", "returned str 'good', which is not a number"),
        ("exit", "exception", "SystemExit: 3"),
        ("os._exit", "killed", "its worker ended itself with exit status 3"),
        ("kill", "killed", "its worker was ended by signal 9 (SIGKILL)"),
        ("real-time signal", "killed", f"its worker was ended by signal {signal.SIGRTMIN + 6} ("),
        ("half a pair", "exception", "ValueError: no such mood: ?"),
        ("kill group", "killed", "its worker was ended by signal 9 (SIGKILL)"),
        ("memory", "memory", "out of memory (reward.memory_mib = 256)"),
        ("busy", "transient", "busy"),
    ],
)
def test_a_fault_costs_its_own_answer_alone(response: str, kind: str, reason: str) -> None:
    with make_scorer("score", memory_mib=256, retries=1, retry_wait_s=0.01) as scorer:
        judging = scorer.begin(surrounded(response))
        rewards = judging.result()
        assert [reward.score for reward in rewards] == [1.0, 2.0, 0.0, 3.0, 4.0]
        assert reason in str(rewards[2].error)
        assert judging.report().errors == {kind: 1}
        assert [reward.score for reward in scorer.score(samples(["a", "bb"]))] == [1.0, 2.0]


def test_many_faults_in_a_row_cost_no_other_answer() -> None:
    with make_scorer("score") as scorer:
        scorer.score(samples(["a"] * 5))  # from here on many answers go to a worker at once
        rewards = scorer.score(samples(["os._exit", "bb"] * 8))
    assert [reward.error is None for reward in rewards] == [False, True] * 8


@pytest.mark.parametrize("response", ["hang", "regex"])
def test_an_answer_that_takes_too_long_is_killed(response: str) -> None:
    with make_scorer("score", timeout_s=1.5) as scorer:
        judging = scorer.begin(surrounded(response))
        rewards = judging.result()
        assert [reward.score for reward in rewards] == [1.0, 2.0, 0.0, 3.0, 4.0]
        assert "no verdict within 1.5 s; its worker was killed" in str(rewards[2].error)
        report = judging.report()
    assert (report.errors, report.restarts) == ({"timeout": 1}, 1)


def test_when_every_answer_hangs_only_the_first_ones_are_waited_for() -> None:
    with make_scorer("score", timeout_s=0.5) as scorer:
        judging = scorer.begin(samples(["hang"]) + samples(["regex"] * 40))
        assert all(reward.error for reward in judging.result())
        assert judging.report().restarts < 20, "one for each of 41 if all were waited for"


def test_the_first_fault_stops_the_batch_where_it_should() -> None:
    with (
        make_scorer("score", on_error="stop") as scorer,
        pytest.raises(RewardError, match=r"row 2 \(sums\): ValueError"),
    ):
        scorer.score([*surrounded("raise"), *samples(["hang"])])


def test_too_many_faults_stop_the_batch() -> None:
    with make_scorer("score", max_error_fraction=0.3) as scorer:
        assert len(scorer.score(surrounded("raise"))) == 5
        with pytest.raises(RewardError, match=r"2 of 5 answers could not be judged \(exception 2\), more than"):
            scorer.score(samples(["a", "raise", "nan", "raise", "raise"])[:2] + samples(["raise", "b", "c"]))


def test_a_batch_function_is_called_once_with_all_answers() -> None:
    with make_scorer("of_a_batch") as scorer:
        assert [reward.score for reward in scorer.score(samples(["a"] * 20))] == [20.0] * 20


def test_a_wrong_number_of_verdicts_fails_the_batch() -> None:
    with make_scorer("wrong_length") as scorer:
        rewards = scorer.score(samples(["a", "b", "c"]))
        assert [str(reward.error) for reward in rewards] == ["wrong_length: returned 2 verdicts for 3 answers"] * 3


def test_a_missing_column_stops_whatever_the_policy() -> None:
    with make_scorer("needs_column") as scorer, pytest.raises(ConfigError, match="asks for the column 'level'"):
        scorer.score(samples(["a"]))


def test_a_leak_is_ended_before_it_does_harm() -> None:
    with make_scorer("leaks", memory_mib=256, workers=1) as scorer:
        judging = scorer.begin(samples([str(number) for number in range(16)]))
        assert [reward.error for reward in judging.result()] == [None] * 16
        assert judging.report().restarts >= 2


def test_a_passing_failure_is_asked_again() -> None:
    with make_scorer("busy_once", workers=1, retry_wait_s=0.01) as scorer:
        judging = scorer.begin(samples(["a", "b"]))
        assert [reward.score for reward in judging.result()] == [1.0, 1.0]
        assert judging.report().retries == 2


def test_a_function_that_comes_back_twice_is_heard_once() -> None:
    with make_scorer("comes_back_twice", workers=1) as scorer:
        assert [reward.score for reward in scorer.score(samples(["a", "bb", "ccc"]))] == [1.0, 2.0, 3.0]


def test_killing_the_process_that_starts_workers_costs_nothing_but_time() -> None:
    with make_scorer("score") as scorer:
        rewards = scorer.score(surrounded("kill parent"))
        assert [reward.score for reward in rewards if reward.error is None][:2] == [1.0, 2.0]
        assert [reward.score for reward in scorer.score(samples(["a", "bb"]))] == [1.0, 2.0]


@pytest.mark.timeout(120)
def test_killing_the_process_that_starts_workers_again_and_again_ends_the_batch_with_the_reason() -> None:
    with make_scorer("score", workers=1) as scorer:
        for _ in range(2):
            with pytest.raises(RewardError, match="killed again and again"):
                scorer.score(samples(["kill parent and wait"]))


@pytest.mark.parametrize(
    "draws", ["draws", "draws_from_numpy", pytest.param("draws_from_torch", marks=pytest.mark.slow)]
)
def test_random_draws_depend_on_the_answer_and_never_on_the_worker(draws: str) -> None:
    batch = samples([str(number) for number in range(30)])
    drawn = []
    for workers, order in ((1, batch), (4, batch[::-1])):
        with make_scorer(draws, workers=workers) as scorer:
            drawn.append([reward.score for reward in scorer.score(order)])
    assert drawn[0] == drawn[1][::-1]
    assert len(set(drawn[0])) == 30


def test_the_order_of_a_set_is_the_same_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    firsts = []
    for _ in range(2):
        monkeypatch.setattr("rlkit.rewards.workers.nursery._nursery", None)  # as in a process of its own
        with make_scorer("first_of_a_set") as scorer:
            firsts.append(scorer.score(samples(["a"]))[0].score)
    assert firsts[0] == firsts[1]


def test_slow_work_is_spread_over_all_workers_and_they_are_kept(tmp_path: Path) -> None:
    workers = []
    with make_scorer("meets", workers=3) as scorer:
        for batch in ("first", "second"):
            (tmp_path / batch).mkdir()
            rewards = scorer.score(samples([f"{tmp_path / batch}/{number}" for number in range(60)]))
            assert not any(reward.error for reward in rewards)
            workers.append({reward.score for reward in rewards})
    assert len(workers[0]) == 3
    assert workers[1] == workers[0]


def test_what_a_function_prints_does_not_reach_the_output(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "from rlkit.config.reward_sections import RewardSection\n"
        "from rlkit.rewards.scorer import build_scorer\n"
        "from rlkit.types import Prompt, Sample\n"
        f"with build_scorer(RewardSection(functions=({str(BROKEN) + ':score'!r},))) as scorer:\n"
        "    scorer.score([Sample(Prompt(0, text='q'), 'print')])\n"
        "import sys; assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=120)
    assert done.stdout == b""
    assert b"noise" in done.stderr


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(processes: Sequence[int]) -> list[int]:
    deadline = time.monotonic() + 60
    while (alive := [process for process in processes if is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def test_processes_that_outlive_their_answer_end_with_the_worker() -> None:
    with make_scorer("forks", workers=1, timeout_s=3.0) as scorer:
        children = [int(reward.score) for reward in scorer.score(samples(["a", "b"]))]
        assert all(map(is_alive, children))  # a function may keep a helper
        assert scorer.score(samples(["hang"]))[0].error
        assert not wait_until_gone(children)
        children = [int(reward.score) for reward in scorer.score(samples(["c", "d"]))]
    assert not wait_until_gone(children)


def test_a_worker_that_collects_processes_is_replaced() -> None:
    with make_scorer("forks", workers=1) as scorer:
        batches = [scorer.begin(samples([f"{batch} {number}" for number in range(12)])) for batch in range(2)]
        children = [int(reward.score) for judging in batches for reward in judging.result()]
        assert sum(judging.report().restarts for judging in batches) >= 1
        assert sum(map(is_alive, children)) < 24
    assert not wait_until_gone(children)


def test_nothing_is_left_when_the_trainer_is_killed() -> None:
    code = (
        "import os, time\n"
        "from rlkit.config.reward_sections import RewardSection\n"
        "from rlkit.rewards.scorer import build_scorer\n"
        "from rlkit.types import Prompt, Sample\n"
        f"scorer = build_scorer(RewardSection(functions=({str(BROKEN) + ':forks'!r},), workers=1))\n"
        "child = int(scorer.score([Sample(Prompt(0, text='q'), 'a')])[0].score)\n"
        "judging = scorer.begin([Sample(Prompt(0, text='q'), 'hang')])\n"
        "print(child, flush=True)\n"
        "time.sleep(600)\n"
    )
    trainer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert trainer.stdout is not None
    child = int(trainer.stdout.readline())
    (nursery,) = children_of(trainer.pid)
    workers = children_of(nursery)
    assert workers
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.communicate()
    assert not wait_until_gone([child, nursery, *workers])
