"""Weight files: where they are, and how they are downloaded."""
