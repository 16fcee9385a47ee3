"""Statements, questions and dialogues about images and videos, and their wordings; no torch."""
