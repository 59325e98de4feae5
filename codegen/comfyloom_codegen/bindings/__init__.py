"""Binding files: what they say, and which nodes they mean."""
