"""The `oci` source: kernels from images of container registries."""
