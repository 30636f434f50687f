"""Llama model family for rlkit."""
