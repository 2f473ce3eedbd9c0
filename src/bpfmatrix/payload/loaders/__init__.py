"""How the loaders of `invoke verify` are built that no compiler builds alone (docs/loaders.md)."""
