"""Controls that several tabs share."""
