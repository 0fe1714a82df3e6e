"""The state of running workflows, kept safe."""
