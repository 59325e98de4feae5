"""A workflow that was exported again: what moved, and what that changes."""
