"""Pages for people in a browser: what the checkpoints know, and a way to answer what waits."""
