"""Reading data files and turning their rows into prompts, conversations and token ids."""
