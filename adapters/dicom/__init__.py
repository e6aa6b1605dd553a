"""DICOM (PS3)."""
