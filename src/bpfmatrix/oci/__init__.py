"""Container images: their names, the registries and folders that have them, and their layers."""
