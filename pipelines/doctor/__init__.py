"""Report on this machine: what it has, which models run on it, what is missing."""
