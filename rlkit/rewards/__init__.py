"""Judging answers: adapting reward functions and calling them safely."""
