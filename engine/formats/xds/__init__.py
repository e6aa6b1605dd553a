"""Document sharing metadata (IHE ITI TF-3 clauses 4.1 to 4.3) in ebRIM and ebRS 3.0: read, checked, written; queries and retrievals.

Everything here is pure: elements in, dataclasses out, and the other way round. Where documents are, a caller says.
"""
