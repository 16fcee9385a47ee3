"""Images and videos of coloured shapes as plain data, with their exact truth; no torch."""
