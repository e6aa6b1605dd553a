"""The archive's writer, as a process of its own: ``python -m adapters.dicom.archive.writer_process``.

Reading headers and writing rows would hold the interpreter lock of the node, whose reactor moves images meanwhile; and a header that was
made to cost a lot costs the node nothing.

It is sent the folder first, then lists of Arrival (Book.keep) and pairs (keep, most_bytes) (Book.retire); and sends what they give, or a
StoreError's (code, text). It ends after what it is doing, when the node closes the pipe (engine.blocks).
"""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

from adapters.dicom.archive.book import Book
from engine.blocks import Parent
from engine.errors import StoreError


def _work(book: Book, asked: Any) -> Any:
    try:
        if isinstance(asked, str):
            book.open()
            return True
        return book.keep(asked) if isinstance(asked, list) else book.retire(*asked)
    except StoreError as error:
        return error.code, error.text


def main() -> None:
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)  # a header is hundreds of objects without a cycle among them
    parent = Parent()
    values = iter(parent)
    folder = next(values)
    book = Book(Path(folder), lambda: time.time_ns() // 1000)
    opened = _work(book, folder)
    parent.send(opened)
    for asked in values if opened is True else ():
        parent.send(_work(book, asked))
    book.close()


if __name__ == "__main__":
    main()
