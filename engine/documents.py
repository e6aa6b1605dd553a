"""YAML with line numbers; what is wrong with it is a fault like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from engine.errors import Fault

_MOST_BYTES: Final = 1 << 20


def read_yaml(file: Path, name: str, faults: list[Fault]) -> Any:
    """The document, None where it cannot be read. Duplicate keys are refused."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            faults.append(Fault(name, 0, "the file is larger than 1 MB"))
            return None
        return YAML(typ="rt", pure=True).load(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        faults.append(Fault(name, 0, "the file is not UTF-8"))
    except OSError as error:
        faults.append(Fault(name, 0, f"cannot be read: {error.strerror}"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        faults.append(Fault(name, mark.line + 1 if mark else 0, f"not YAML: {error.problem or error.context}"))
    except YAMLError as error:
        faults.append(Fault(name, 0, f"not YAML: {type(error).__name__}"))
    return None
