"""Channels: the model of a channel file, its check and its test harness."""

from channels.model import Site, compile_program, load

__all__ = ["Site", "compile_program", "load"]
