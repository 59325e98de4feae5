"""The guard process: it stops the machines of a program that was killed."""
