"""Held-out data, and the figures of the demo checkpoints."""
