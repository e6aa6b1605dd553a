"""DICOM: PS3.15 annex E. `instance` de-identifies a file as a stream, `attributes` a data set, `table` is E.1-1."""
