"""Instances on their way out: by C-STORE (PS3.4 annex B) with storage commitment (annex J), or by STOW-RS (PS3.18 clause 10.5).

part10, canonical           the file meta information; digests of a data set's bytes, and of what it says    (pure)
instance                    one parcel's file, read in pieces and checked
outcomes                    what a peer's status means for an instance                                       (pure)
store_scu                   the destination of ``dicom``; stores, pool, peer: its associations; transcoding
committing                  storage commitment as SCU; commitment_service as SCP, on a listener
commitment                  their data sets (pure); commitment_book: their transactions on disk, commitment_hub: one for all
get                         reads back by C-GET
stow                        the destination of ``dicomweb``; stow_answer: what a response says (pure); retrieve: reads back by WADO-RS
"""
