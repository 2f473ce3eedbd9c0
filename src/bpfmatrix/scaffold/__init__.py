"""The first kernels.yaml of a project: what is found in its files, and the texts of `init`."""
