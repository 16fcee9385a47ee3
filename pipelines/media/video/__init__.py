"""Exact video reading: container, index, decoder and frames."""
