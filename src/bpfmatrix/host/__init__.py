"""The host: tools, child processes, locks, the cache, checksums, versions, architectures."""
