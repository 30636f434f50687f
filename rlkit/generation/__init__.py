"""Answering the prompts of a file: from prompts to a completions file."""
