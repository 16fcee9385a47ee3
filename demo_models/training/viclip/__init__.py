"""Recipe of demo-viclip."""
