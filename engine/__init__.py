"""Meridian's engine: keeps, routes, delivers and proves messages; knows no protocol."""

__version__ = "0.1.0"
