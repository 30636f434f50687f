"""Tasks of lm-evaluation-harness on rlkit's models. Only `model` imports the harness when it is imported itself."""
