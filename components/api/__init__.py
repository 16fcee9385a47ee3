"""Public endpoints, one file for each family of models."""
