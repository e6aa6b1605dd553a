"""What a channel file may say under ``dicomweb`` (destination)."""

from __future__ import annotations

from typing import Final

from engine.http_options import client_options, in_the_clear
from engine.options import SIZE, Option, Spec, choice, integer

STOW: Final = Spec(
    "dicomweb destination",
    "Stores instances on a DICOMweb server (STOW-RS).",
    [
        *client_options("base address of the service, such as https://pacs.example:8443/dicom-web", 4),
        Option("together", integer(1, 1000), "most instances in one request", default=32),
        Option("together_size", SIZE, "most bytes of the instances in one request; a larger one goes alone", default="8MB"),
        Option("verify", choice("none", "retrieve"), "retrieve: read each instance back (WADO-RS) and compare it", default="none"),
    ],
    scalar="url",
    check=in_the_clear,
)
