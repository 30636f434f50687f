"""rlkit's vLLM rollout engine."""
