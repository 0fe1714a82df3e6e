"""The server over HTTP: who may call it, whether it is well, and how it begins and ends."""
