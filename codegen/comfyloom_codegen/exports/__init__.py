"""Compare a new export of a workflow with the previous one."""
