"""The model of one module, built from a workflow, its binding and the schemas."""
