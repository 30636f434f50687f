"""rlkit's reward functions: gsm8k, math, exact match, format, length."""
