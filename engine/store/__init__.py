"""Stores: the contract, and SQLite as the embedded default."""
