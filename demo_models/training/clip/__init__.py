"""Recipe of demo-clip."""
