"""Channels: the model of a channel file, its check and its test harness."""
