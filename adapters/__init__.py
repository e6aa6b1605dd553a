"""Adapters: one package a protocol; siblings that never import each other."""
