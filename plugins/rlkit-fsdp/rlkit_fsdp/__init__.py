"""rlkit's FSDP2 actor backend; one device is world size 1."""
