"""Recipe of demo-blip2."""
