"""A frame as an image for people (PS3.18 clauses 8.3.5 and 10.4.3): decoded, windowed, scaled, as JPEG or PNG.

Needs numpy and Pillow, of the extra `dicom`. For a thread: it takes its time.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from adapters.dicom.web.faults import WebRefusal

if TYPE_CHECKING:
    from adapters.dicom.web.files import Pixels

JPEG: Final = "image/jpeg"
PNG: Final = "image/png"
MOST_SIZE: Final = 8192
MOST_FRAME: Final = 256 << 20
"""Bytes of one uncompressed frame."""
_FUNCTIONS: Final = {"": "LINEAR", "linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_DESCRIBING: Final[list[Any]] = [
    "PhotometricInterpretation", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData",
    "AlphaPaletteColorLookupTableData", "PaletteColorLookupTableUID",
]  # fmt: skip
"""What is read of the data set: pydicom logs values that it finds wrong, and none may be the patient's."""
# what a decoder raises for data that is not what its header says, or that it has no code for
_UNDECODABLE: Final = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, OSError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Look:
    """How a frame is to be shown: window centre, width and function; the size of the viewport and the region of the image that fills it
    (x, y, width, height; 0: to the edge); the quality of a JPEG."""

    window: tuple[float, float, str] | None = None
    viewport: tuple[int, int] | None = None
    region: tuple[float, float, float, float] | None = None
    quality: int = 90


def read_look(parameters: Mapping[str, str], viewport: tuple[int, int] | None = None) -> Look:
    """From query parameters. Raises WebRefusal 400."""
    try:
        window = _window(parameters["window"]) if "window" in parameters else None
        quality = int(parameters.get("quality", 90))
        region = None
        if "viewport" in parameters:
            viewport, region = _viewport(parameters["viewport"])
    except ValueError:
        raise WebRefusal(400, "a rendering parameter cannot be read (PS3.18 8.3.5)") from None
    if not 1 <= quality <= 100:
        raise WebRefusal(400, "quality is 1 to 100")
    return Look(window, viewport, region, quality)


def _window(text: str) -> tuple[float, float, str]:
    centre, width, *function = text.split(",")
    named = _FUNCTIONS.get(function[0].strip() if function else "")
    if named is None or len(function) > 1 or not 0 < float(width) < 1e9 or not abs(float(centre)) < 1e9:
        raise ValueError
    return float(centre), float(width), named


def _viewport(text: str) -> tuple[tuple[int, int], tuple[float, float, float, float] | None]:
    parts = [part.strip() for part in text.split(",")]
    size = (int(parts[0]), int(parts[1])) if len(parts) in (2, 6) else (0, 0)
    if not all(0 < side <= MOST_SIZE for side in size):
        raise ValueError
    if len(parts) == 2:
        return size, None
    x, y, width, height = (float(part or 0) for part in parts[2:])
    if not (0 <= x < 1e6 and 0 <= y < 1e6 and abs(width) < 1e6 and abs(height) < 1e6):
        raise ValueError
    return size, (x, y, width, height)


def render(pixels: Pixels, number: int, look: Look, media: str) -> bytes:
    """Frame `number` (from 1) as an image. Raises WebRefusal 404, 406, 501."""
    if number > pixels.frames:
        raise WebRefusal(404, f"the instance has {pixels.frames} frames")
    if not 0 < pixels.frame_bits // 8 <= MOST_FRAME:
        raise WebRefusal(406, "the frame is too large to be rendered")
    try:
        import numpy  # noqa: F401  pydicom needs it
        from PIL import Image
        from pydicom import dcmread
        from pydicom.pixels.utils import pixel_array
    except ModuleNotFoundError as error:
        raise WebRefusal(501, f"rendering needs the package {error.name!r}: pip install 'meridian[dicom]'") from error
    try:
        described = dcmread(pixels.path, stop_before_pixels=True, specific_tags=_DESCRIBING)
        shown = _eight_bits(pixel_array(pixels.path, index=number - 1), described, look)
        return _image(Image.fromarray(shown), look, media)
    except (*_UNDECODABLE, Image.DecompressionBombError) as error:
        raise WebRefusal(406, f"frames in transfer syntax {pixels.transfer_syntax} cannot be rendered here") from error


def _eight_bits(array: Any, described: Any, look: Look) -> Any:
    """Grey values through modality and VOI transformation (PS3.4 N.2), palettes to colours; colours as they are."""
    import numpy as np
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

    kind = described.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        array = apply_color_lut(array, described)
    if array.ndim == 3:
        return array.astype(np.uint8) if array.itemsize == 1 else (array >> (array.itemsize * 8 - 8)).astype(np.uint8)
    grey = _windowed(apply_modality_lut(array, described).astype(np.float64), described, look)
    return 255 - grey if kind == "MONOCHROME1" else grey


def _windowed(values: Any, described: Any, look: Look) -> Any:
    import numpy as np

    centre, width, function = look.window or _own_window(described) or _full_range(values)
    if function == "SIGMOID":
        shown = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -500, 500)))
    elif function == "LINEAR_EXACT":
        shown = (values - centre) / width + 0.5
    else:  # PS3.3 C.11.2.1.2.1
        shown = (values - (centre - 0.5)) / max(width - 1, 1e-6) + 0.5
    return np.rint(np.clip(np.nan_to_num(shown), 0, 1) * 255).astype(np.uint8)


def _own_window(described: Any) -> tuple[float, float, str] | None:
    """The first window that the instance brings."""
    found = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = described.get(keyword)
        first = value[0] if value is not None and not isinstance(value, str | float | int) and len(value) else value
        if first in (None, ""):
            return None
        found.append(float(first))
    if found[1] <= 0:
        return None
    return found[0], found[1], str(described.get("VOILUTFunction") or "LINEAR").upper()


def _full_range(values: Any) -> tuple[float, float, str]:
    low, high = float(values.min()), float(values.max())
    return (low + high) / 2, max(high - low, 1.0), "LINEAR_EXACT"


def _image(image: Any, look: Look, media: str) -> bytes:
    if look.region is not None:
        image = _cut(image, look.region)
    if look.viewport is not None:  # as large as fits, in its own proportions
        scale = min(look.viewport[0] / image.width, look.viewport[1] / image.height)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    out = io.BytesIO()
    if media == PNG:
        image.save(out, "PNG")
    else:
        image.save(out, "JPEG", quality=look.quality)
    return out.getvalue()


def _cut(image: Any, region: tuple[float, float, float, float]) -> Any:
    """The region of the image; a negative width or height turns it round (PS3.18 8.3.5.1.3)."""
    from PIL import ImageOps

    x, y, width, height = region
    box = (round(x), round(y), round(x + (abs(width) or image.width)), round(y + (abs(height) or image.height)))
    box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise WebRefusal(400, "the region is outside of the image")
    image = image.crop(box)
    image = ImageOps.mirror(image) if width < 0 else image
    return ImageOps.flip(image) if height < 0 else image
