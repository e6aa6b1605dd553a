"""De-identification per destination: DICOM by PS3.15 annex E, HL7 v2 and FHIR by tables of their own, with pseudonyms that agree.

    policy      what a destination wants: profile and options, dates, key, authorities, private attributes
    dates       dates moved by days, in the notations of the three standards
    traces      what identifies one person, and whether a text still holds it
    hl7v2, fhir, dicom/    one standard each; pure
    content     which of them a content type needs
    sending     the destination that de-identifies what it hands to another destination

What cannot be de-identified raises `engine.errors.Quarantined`, and so does a result that still holds the patient's own identifiers: the
attribute is named, never the value. pydicom is needed for DICOM only and imported when the first instance comes.
"""
