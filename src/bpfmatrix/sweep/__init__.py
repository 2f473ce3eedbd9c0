"""`invoke sweep`: what is new among the kernels that sources offer, and what newly fails there."""
