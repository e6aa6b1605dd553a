"""DICOMweb (PS3.18): STOW-RS, QIDO-RS and WADO-RS over HTTP.

media, targets, multipart, part10     media types, resources, bodies, instances: bytes and text only    (pure)
storing, results, native_model        what is answered: store responses, query results, XML             (pure)
matching, metadata, pixels            queries, metadata and frames out of files                        (no socket)
source, server                        the listener and its connections
store, reading                        the store transaction; query and retrieve
"""
