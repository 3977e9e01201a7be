"""Base models by name: which there are, where they come from and where they are stored."""
