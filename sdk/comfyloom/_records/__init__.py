"""Records of machines on disk: ledger, dev-server state, guard log."""
