"""The commands. May import every folder."""
