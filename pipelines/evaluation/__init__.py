"""How well a model tells the classes of one's own pictures apart, and a probe taught on them.

Torch-free: vectors come from an image-text model as numpy arrays.
"""
