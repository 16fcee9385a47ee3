"""HTTP server, queue, uploads, limits and translation."""
