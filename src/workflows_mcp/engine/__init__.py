"""Runs workflows. Knows no database: it reaches one through the `CheckpointStore` contract only."""
