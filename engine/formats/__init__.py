"""Pure codecs, one package a format: bytes to documents and back. None knows a socket."""
