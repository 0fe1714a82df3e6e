"""The checkpoints table and everything that touches it."""
