"""Policy losses, one file each: a loss for each token, differentiable in its log-prob."""
