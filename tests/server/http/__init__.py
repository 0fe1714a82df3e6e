"""The server over HTTP: who is let in, how it is, and how it ends."""
