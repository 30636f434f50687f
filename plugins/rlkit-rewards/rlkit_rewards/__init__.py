"""rlkit's reward functions: final answers, choices, form, length, code, judges and reward models."""
