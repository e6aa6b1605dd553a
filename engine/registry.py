"""Finds adapters, codecs and mappings by name, so that the engine imports none of them.

The shipped ones are listed here as dotted strings; third parties add theirs with the entry point
groups ``meridian.adapters``, ``meridian.codecs`` and ``meridian.mappings``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, cast

from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.contracts import Adapter, Codec, MappingRules

ADAPTERS: Final = "meridian.adapters"
CODECS: Final = "meridian.codecs"
MAPPINGS: Final = "meridian.mappings"

_SHIPPED: Final[Mapping[str, Mapping[str, str]]] = {
    ADAPTERS: {
        "mllp": "adapters.mllp:adapter",
        "astm": "adapters.astm:adapter",
        "poct1a": "adapters.poct1a:adapter",
        "worklist": "adapters.worklist:adapter",
        "dicom_worklist": "adapters.dicom.worklist:adapter",
        "fhir": "adapters.fhir:adapter",
        "fhir_repository": "adapters.fhir:repository_adapter",
        "hip": "adapters.soap.hip:adapter",
        "soap": "adapters.soap:adapter",
        "dicom": "adapters.dicom:adapter",
        "dicomweb": "adapters.dicom:dicomweb_adapter",
        "dicom_archive": "adapters.dicom:archive_adapter",
        "database": "adapters.database:adapter",
        "database_capture": "adapters.database.capture:adapter",
        "fhir_tables": "adapters.database.landing:adapter",
        "file": "adapters.file:adapter",
        "http": "adapters.http:adapter",
        "xdr": "adapters.soap.xdr:adapter",
        "xds": "adapters.soap.xdr:xds_adapter",
    },
    CODECS: {
        "application/hl7-v2+er7": "engine.formats.hl7v2:codec",
        "application/astm+e1394": "engine.formats.astm:codec",
        "application/poct1a+xml": "engine.formats.poct1a:codec",
        "application/fhir+json": "engine.formats.fhir:codec",
        "application/fhir+xml": "engine.formats.fhir_r4.xml:codec",
        "application/soap+xml": "engine.formats.soap:codec",
        "application/hl7-cda+xml": "engine.formats.cda:codec",
        "application/rows+json": "engine.formats.rows:codec",
        "application/vnd.meridian.file": "engine.formats.files.labelled:codec",
        "application/json": "engine.formats.json_document:codec",
        "application/xml": "engine.formats.xml_document:codec",
        "application/x-www-form-urlencoded": "engine.formats.form:codec",
        "application/dicom": "engine.formats.dicom:codec",
        "application/dicom+json": "engine.formats.dicom:json_codec",
    },
    MAPPINGS: {
        "hl7v2-to-fhir": "mappings.hl7v2_to_fhir:rules",
        "astm-to-fhir": "mappings.astm_to_fhir:rules",
        "poct1a-to-fhir": "mappings.poct1a_to_fhir:rules",
        "cda-to-fhir": "mappings.cda_to_fhir:rules",
        "dicom-to-fhir": "mappings.dicom_to_fhir:rules",
        "rows-to-fhir": "mappings.rows_to_fhir:rules",
        "files-to-fhir": "mappings.files_to_fhir:rules",
        "xdr-to-fhir": "mappings.xdr_to_fhir:rules",
        "hip-to-fhir": "mappings.hip_to_fhir:rules",
    },
}

_EXTRAS: Final[Mapping[str, str]] = {
    "pydicom": "dicom",
    "pynetdicom": "dicom",
    "zeep": "soap",
    "sqlalchemy": "database",
    "psycopg": "database",
    "pymysql": "database",
    "pymysqlreplication": "database",
    "pyarrow": "parquet",
    "asyncssh": "sftp",
}
"""Which extra installs what a shipped part may lack."""


def extra_of(package: str) -> str:
    """The extra that installs a package, "" where it comes otherwise."""
    return _EXTRAS.get(package, "")


def adapter(name: str) -> Adapter:
    """The adapter called `name`. Raises ConfigError naming what there is, or the extra that is missing."""
    return cast("Adapter", _load(ADAPTERS, name))


def codec(content_type: str) -> Codec | None:
    """The codec for a content type, None where there is none (the body is then carried unread)."""
    return cast("Codec", _load(CODECS, content_type)) if content_type in names(CODECS) else None


def mapping(name: str) -> MappingRules:
    """The mapping called `name`. Raises ConfigError naming what there is."""
    return cast("MappingRules", _load(MAPPINGS, name))


@cache
def names(group: str) -> Mapping[str, str]:
    """name -> dotted string of everything in `group`; a third party cannot shadow a shipped name."""
    found = {point.name: point.value for point in entry_points(group=group)}
    return {**found, **_SHIPPED[group]}


@cache
def _load(group: str, name: str) -> Any:
    dotted = names(group).get(name)
    if dotted is None:
        known = ", ".join(sorted(names(group)))
        raise ConfigError(f"there is no {name!r} in {group}; known: {known}")
    module, _, attribute = dotted.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        command = f": pip install 'meridian[{extra}]'" if extra and name in _SHIPPED[group] else ", which is not installed"
        raise ConfigError(f"{name!r} needs the package {error.name!r}{command}") from error
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{name!r} cannot be loaded from {dotted}: {error}") from error
