"""From a workflow, its binding and the schemas to the model of one module."""
