"""Search in one's own pictures and videos: an index on LanceDB, whose vectors come from models."""
