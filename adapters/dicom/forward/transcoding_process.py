"""Changes transfer syntaxes: ``python -m adapters.dicom.forward.transcoding_process``.

It is sent (content or path, digest of that file, folder, transfer syntax UID), and sends the changed content, or for a file (its first
bytes, size, path, digest) of a new one in `folder`; or a text that says why it cannot be (engine.blocks).
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import warnings
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import UID, ImplicitVRLittleEndian

from adapters.dicom.forward.part10 import HEAD
from engine.blocks import Parent


def changed(content: bytes, syntax: str) -> bytes | str:
    """The file in another, uncompressed transfer syntax; or why not, without anything of its content."""
    try:
        data_set = dcmread(io.BytesIO(content))
        if data_set.file_meta.TransferSyntaxUID.is_encapsulated:
            data_set.decompress(generate_instance_uid=False)
        data_set.file_meta.TransferSyntaxUID = UID(syntax)
        written = io.BytesIO()
        data_set.save_as(written, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    except Exception as error:  # noqa: BLE001  pydicom raises whatever its parts raise; its words may quote the content
        return f"it cannot be changed to transfer syntax {syntax}: {type(error).__name__}"
    return written.getvalue()


def changed_file(path: str, digest: str, folder: str, syntax: str) -> tuple[bytes, int, str, str] | str:
    try:
        content = Path(path).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            return f"the content cannot be read back: the body {digest[:12]} is not what was stored"
        result = changed(content, syntax)
        if isinstance(result, str):
            return result
        Path(folder).mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(result)
    except OSError as error:
        return f"it cannot be changed to transfer syntax {syntax}: {error.strerror}"
    return result[:HEAD], len(result), name, hashlib.sha256(result).hexdigest()


def main() -> None:
    warnings.simplefilter("ignore")
    parent = Parent()
    for content, digest, folder, syntax in parent:
        parent.send(changed(content, syntax) if isinstance(content, bytes) else changed_file(content, digest, folder, syntax))


if __name__ == "__main__":
    main()
