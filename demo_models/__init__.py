"""Draws small worlds of coloured shapes and trains the bundled demo checkpoints on them."""
