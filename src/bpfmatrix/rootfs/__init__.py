"""A root file system for the tests, from a container image or a folder of the host."""
