"""Results as HTML, CSV and JSON."""
