"""Experiment trackers as rlkit hooks: TensorBoard, Weights & Biases, MLflow, trackio."""
