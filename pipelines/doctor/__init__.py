"""What this machine has, what of SeeSay will run on it, and what mends what is missing."""
