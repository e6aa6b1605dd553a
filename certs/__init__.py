"""Certificates: profiles, a node's private authority, and what is wrong with a folder of them."""

from certs.authority import Authority, Issued
from certs.inspection import Finding, check

__all__ = ["Authority", "Finding", "Issued", "check"]
