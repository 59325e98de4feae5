"""Where a session runs its workflows."""
