"""Images, videos and links: opened, checked and decoded."""
