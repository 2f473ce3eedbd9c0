"""`kernels.yaml`: its models, its reading, and the generated reference of its keys."""
