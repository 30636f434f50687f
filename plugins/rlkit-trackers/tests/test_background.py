from __future__ import annotations

import threading

from rlkit_trackers.background import BackgroundCalls


def calls(limit: int = 100) -> tuple[BackgroundCalls, list[BaseException]]:
    failures: list[BaseException] = []
    return BackgroundCalls("test", limit=limit, on_failure=failures.append), failures


def test_everything_is_called_in_order_on_one_other_thread():
    background, failures = calls()
    seen = []
    for number in range(20):
        assert background.submit(lambda number=number: seen.append((number, threading.current_thread())))
    assert background.close(lambda: seen.append((20, threading.current_thread())), timeout_s=30)
    assert [number for number, _ in seen] == list(range(21)) and not failures
    assert {thread for _, thread in seen} not in ({threading.main_thread()}, set()) and len({t for _, t in seen}) == 1


def test_what_comes_when_the_queue_is_full_is_counted_and_the_rest_is_done():
    background, _ = calls(limit=3)
    held, seen, started = threading.Event(), [], threading.Event()
    background.submit(lambda: (started.set(), held.wait()))
    started.wait()
    taken = [background.submit(lambda number=number: seen.append(number)) for number in range(5)]
    assert taken == [True, True, True, False, False] and background.dropped == 2
    held.set()
    assert background.close(lambda: seen.append("last"), timeout_s=30)
    assert seen == [0, 1, 2, "last"]


def test_a_call_that_hangs_is_left_behind():
    background, _ = calls()
    held = threading.Event()
    background.submit(held.wait)
    assert not background.close(lambda: None, timeout_s=0.05)
    held.set()


def test_after_a_failure_nothing_is_called_and_it_is_told_once():
    for error in (ValueError("no"), SystemExit(3), KeyboardInterrupt()):
        background, failures = calls()

        def fail(error: BaseException = error) -> None:
            raise error

        seen: list[int] = []
        background.submit(fail)
        while not background.failed:
            background.submit(fail)
        assert background.submit(lambda seen=seen: seen.append(1))
        assert background.close(lambda seen=seen: seen.append(2), timeout_s=30)
        assert failures == [error] and seen == []


def test_a_call_that_fails_now_and_then_is_tried_again_and_the_others_wait_for_it():
    failures: list[BaseException] = []
    background = BackgroundCalls("test", limit=10, on_failure=failures.append, pauses_s=(0.01, 0.02))
    seen, left = [], [OSError("503"), OSError("503")]

    def work() -> None:
        if left:
            raise left.pop()
        seen.append("work")

    background.submit(work)
    background.submit(lambda: seen.append("next"))
    while len(seen) < 2:
        threading.Event().wait(0.001)
    assert background.close(lambda: seen.append("last"), timeout_s=30)
    assert seen == ["work", "next", "last"] and not failures


def test_the_end_of_a_run_waits_for_no_pause_and_tries_once_more():
    failures: list[BaseException] = []
    background = BackgroundCalls("test", limit=10, on_failure=failures.append, pauses_s=(600.0, 600.0))
    tried, once = [], threading.Event()

    def work() -> None:
        tried.append(1)
        once.set()
        raise OSError("down")

    background.submit(work)
    once.wait()
    assert background.close(lambda: tried.append(2), timeout_s=30)
    assert tried == [1, 1] and [str(failure) for failure in failures] == ["down"]


def test_what_is_not_to_be_tried_again_is_not():
    failures: list[BaseException] = []
    background = BackgroundCalls("test", limit=10, on_failure=failures.append, pauses_s=(0.0, 0.0))
    tried = []

    def work() -> None:
        tried.append(1)
        raise OSError("no")

    background.submit(work, again=False)
    assert background.close(lambda: None, timeout_s=30)
    assert tried == [1] and len(failures) == 1
