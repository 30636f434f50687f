"""rlkit's transformers rollout engine and the auto model family."""
