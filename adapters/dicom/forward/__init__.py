"""Instances on their way out: by C-STORE (PS3.4 annex B) with storage commitment (annex J), or by STOW-RS (PS3.18 clause 10.5).

part10       the file meta information, and the digest of a data set                    (pure)
instance     one parcel's file, read in pieces and checked
stow_answer  what a Store Instances Response says of each instance                      (pure)
stow         the destination of ``dicomweb``
"""
