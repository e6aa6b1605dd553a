"""The list of a study's instances as its message has it: each attribute once a series. Pure.

The first instance of a series has all its attributes. Those that follow have what is different, their UIDs, and the content of a structured
report; an attribute that they do not have in themselves is the first's, one of the first's that they lack stands there without a value.
Private attributes are left out. Two thousand headers of a CT are 20 MB, listed like this less than 2 MB.
"""

from __future__ import annotations

from typing import Final

from adapters.dicom.archive import levels
from adapters.dicom.archive.elements import Elements

SOURCE_AE_TITLE: Final = "00020016"
"""Who sent the file, from its file meta information."""
_ALWAYS: Final = frozenset((levels.SOP_CLASS, levels.SOP_UID, levels.STUDY_UID, levels.SERIES_UID, levels.tag("ContentSequence")))


class Listing:
    """Takes the instances of a study, those of a series together."""

    def __init__(self) -> None:
        self._series: object = None
        self._first: Elements = {}

    def add(self, instance: Elements) -> Elements:
        """What is listed of the next instance."""
        public = {tag: element for tag, element in instance.items() if not int(tag[:4], 16) & 1}
        series = public.get(levels.SERIES_UID)
        if series != self._series:
            self._series, self._first = series, public
            return public
        first = self._first
        different = {tag: element for tag, element in public.items() if tag in _ALWAYS or first.get(tag) != element}
        lacking = {tag: {"vr": element["vr"]} for tag, element in first.items() if tag not in public and "Value" in element}
        return {**different, **lacking}
