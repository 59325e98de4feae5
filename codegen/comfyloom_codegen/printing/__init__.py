"""From the model to Python source, and what such source tells of itself."""
