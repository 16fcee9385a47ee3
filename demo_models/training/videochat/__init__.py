"""Recipe of demo-videochat."""
