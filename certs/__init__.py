"""Certificates: profiles and the life cycle of a node's private CA."""
