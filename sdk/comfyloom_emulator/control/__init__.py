"""The Server API: machines of one account, their leases and their bill."""
