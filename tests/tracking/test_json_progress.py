from __future__ import annotations

import json
import math
import sys

from rlkit.tracking.json_progress import JsonProgress


def test_every_event_is_one_object_on_a_line(make_run, capsys):
    run = make_run()
    view = JsonProgress(sys.stdout)
    view.start(run)
    view.step(run, 1, {"reward/mean": 0.5, "actor/grad_norm": math.inf})
    view.validation(run, 1, {"validation/score": 0.25})
    view.checkpoint(run, 1, run.folder / "checkpoints" / "step_000001")
    view.notice("even")
    view.warning("odd")
    view.finish(run, "finished")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == [
        "run_started",
        "step",
        "validation",
        "checkpoint",
        "notice",
        "warning",
        "run_finished",
    ]
    assert (events[0]["kind"], events[0]["first_step"], events[0]["total_steps"]) == ("ppo", 0, 10)
    assert events[1]["metrics"] == {"reward/mean": 0.5, "actor/grad_norm": None}
    assert events[-1]["status"] == "finished"


def test_what_others_print_during_the_run_goes_to_standard_error(make_run, capsys):
    run = make_run()
    view = JsonProgress(sys.stdout)
    print("before")
    view.start(run)
    print("from a reward function")
    view.finish(run, "finished")
    print("after")
    out, err = capsys.readouterr()
    assert err == "from a reward function\n"
    assert out.splitlines()[0] == "before"
    assert out.splitlines()[-1] == "after"
    assert len(out.splitlines()) == 4
