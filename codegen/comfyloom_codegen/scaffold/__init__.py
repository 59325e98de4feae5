"""Help for authors of bindings: an initial binding, and the inspection of a workflow."""
