"""The Server API: the machines of one account, their leases and their billed time."""
