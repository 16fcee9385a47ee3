"""Work that a tab and its endpoint share."""
