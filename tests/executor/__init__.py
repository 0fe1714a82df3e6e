"""The executor over every store: who owns a run, and what may be done with it."""
