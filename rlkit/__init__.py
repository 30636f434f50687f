"""rlkit: a plugin-based command line for LLM post-training."""

__version__ = "0.1.0"
