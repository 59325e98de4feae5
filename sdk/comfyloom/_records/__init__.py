"""What is on disk about machines: ledger, dev-server state, guard log."""
