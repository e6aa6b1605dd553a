"""The landing schema's tables as files, for Spark and the like: incremental, restartable, in Parquet or as lines of JSON."""

from __future__ import annotations

from adapters.database.landing.export.exporting import Exported, Request, export

__all__ = ["Exported", "Request", "export"]
