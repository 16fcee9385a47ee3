"""Search in one's own pictures and videos: an index on LanceDB, filled and asked by models."""
