"""The registry of parties: institutions, staff and devices, what is known of each, and what each may send.

identifiers   checks of national identifiers                                   (pure)
model         a party, and what may be said of one                             (pure)
snapshot      the whole registry at one moment: who sends, and whether it may  (pure)
table         parties from a CSV file                                          (pure)
registry      the file data/parties.db
gate          a channel's check of what comes in, and the node's view of the file
"""

from engine.parties.gate import Directory, Gate
from engine.parties.identifiers import IDENTIFIERS
from engine.parties.model import Kind, Mark, Party
from engine.parties.registry import Registry
from engine.parties.snapshot import Finding, Rule, Snapshot

__all__ = ["IDENTIFIERS", "Directory", "Finding", "Gate", "Kind", "Mark", "Party", "Registry", "Rule", "Snapshot"]
