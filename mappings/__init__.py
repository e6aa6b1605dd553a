"""Mappings: rules and tables that turn one format into another."""
