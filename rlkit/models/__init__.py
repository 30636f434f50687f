"""Model folders: finding, describing, creating, loading and writing them. Importing this package imports no torch."""
