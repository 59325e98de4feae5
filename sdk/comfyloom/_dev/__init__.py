"""The dev server: one machine that many sessions share."""
