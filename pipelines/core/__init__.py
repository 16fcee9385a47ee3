"""Plain values that pass between the layers; standard library only."""
