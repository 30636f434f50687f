"""The OpenAI-compatible server: HTTP in, `ServingEngine` requests out, chunks back."""
