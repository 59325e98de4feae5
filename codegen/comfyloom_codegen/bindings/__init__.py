"""Binding files: parse them and resolve their selectors."""
