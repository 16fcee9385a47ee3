"""Models by family, and what the families share."""
