"""Synthetic images and videos of coloured shapes, and the training of the bundled demo models."""
