"""Training loops over parts that the pipelines assemble."""
