from __future__ import annotations

from pathlib import Path

from rlkit.tracking.summary_line import finish_line, start_line


def test_the_start_says_what_runs_and_how_long(make_run):
    assert start_line(make_run(folder=Path("runs/first"), total_steps=1500)) == "ppo 'first' in runs/first: 1,500 steps"


def test_a_resumed_run_says_from_where(make_run):
    assert start_line(make_run(first_step=7)).endswith(": 10 steps, going on after step 7")


def test_generation_counts_batches(make_run):
    assert start_line(make_run(kind="generate", name="out.jsonl")) == "generate 'out.jsonl': 10 batches"
    resumed = make_run(kind="generate", name="out.jsonl", total_steps=1, first_step=1)
    assert start_line(resumed) == "generate 'out.jsonl': 1 batch, going on after batch 1"


def test_a_finished_run_says_where_its_model_and_report_are(make_run):
    line = finish_line(make_run(folder=Path("runs/first")), "finished", 61.0)
    assert line == "ppo 'first' finished after 1:01: runs/first/model, runs/first/report.html"


def test_an_interrupted_run_promises_no_model(make_run):
    line = finish_line(make_run(folder=Path("runs/first")), "interrupted", 61.0)
    assert line == "ppo 'first' interrupted after 1:01: runs/first/report.html"


def test_a_failed_run_says_so(make_run):
    assert finish_line(make_run(), "failed", 5.0) == "ppo 'first' failed after 0:05"
