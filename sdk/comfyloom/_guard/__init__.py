"""The guard process, which stops the machines of a killed program."""
