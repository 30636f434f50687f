"""rlkit's actor backend on megatron-core."""
