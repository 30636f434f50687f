"""What runs inside the sandbox: standard library only, any Python from 3.10 on, nothing of rlkit but this folder."""
