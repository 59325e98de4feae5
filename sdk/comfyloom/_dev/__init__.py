"""The dev server: a machine shared by many sessions."""
