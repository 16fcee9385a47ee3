"""Loaded models, the device queue, memory and metrics of a running app."""
