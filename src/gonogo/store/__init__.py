"""The ledger: one port and its implementations."""
