"""VideoChat-Flash: questions and answers about a video. Torch-free here."""
