"""Workflow files and pinned schemas, from bytes to plain data."""
