"""An advantage estimator and a policy loss for rlkit."""
