"""ViCLIP (InternVid): clips of eight frames and texts in one space of unit vectors."""
