"""Recipes of the bundled demo checkpoints."""
