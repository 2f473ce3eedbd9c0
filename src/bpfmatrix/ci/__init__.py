"""What a CI job does besides running kernels: which jobs there are, and comments on the changes."""
