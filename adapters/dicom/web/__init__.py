"""DICOMweb (PS3.18): STOW-RS, QIDO-RS and WADO-RS over HTTP.

media, targets, multipart, part10, queries          what a request says: types, resources, bodies, instances, searches  (pure)
answers, outcomes, native_model, capabilities       what is answered                                                    (pure)
envelopes                                           an instance as a message                                            (pure)
files, rendering                                    metadata, frames and images out of files                            (no socket)
source, server                                      the listener; its connections and their limits
store, reading                                      the store transaction; search and retrieve
"""
