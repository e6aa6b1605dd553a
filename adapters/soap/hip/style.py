"""How a vendor has built HIPMessageServer: names, namespace, SOAP versions, how messages travel. Pure.

The shipped ones are the files of styles/; an endpoint names one and says in its own options what is different at its site.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from engine.errors import Fault
from engine.formats.hip import Carried, Layout
from engine.options import FLAG, TEXT, Faulty, Kind, ListOf, Option, Place, Settings, Spec, choice

FOLDER: Final = Path(__file__).parent / "styles"
SHIPPED: Final = tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_URI: Final = re.compile(r"[^\s<>\"{}|\\^`]{1,512}")


def _name(raw: Any) -> str:
    if not isinstance(raw, str) or not _NAME.fullmatch(raw):
        raise Faulty(f"{raw!r} is not a name of an XML element")
    return raw


def _name_or_nothing(raw: Any) -> str:
    return _name(raw) if raw != "" else ""


def _uri(raw: Any) -> str:
    if not isinstance(raw, str) or not _URI.fullmatch(raw):
        raise Faulty(f"{raw!r} is not a namespace")
    return raw


def _action(raw: Any) -> str:
    text = str(TEXT.read(raw))
    unknown = [word for word in re.findall(r"\{(\w*)\}", text) if word not in _WORDS]
    if unknown:
        raise Faulty(f"there is no {{{unknown[0]}}}", ", ".join(f"{{{word}}}" for word in _WORDS))
    return text


_WORDS: Final = ("namespace", "service", "port", "operation")
ACTION: Final = Kind("text", "a SOAP action, with {namespace}, {service}, {port}, {operation}", _action, {"type": "string"})
NAME: Final = Kind("name", "a name of an XML element", _name, {"type": "string", "pattern": _NAME.pattern})
_WRAPPER: Final = Kind("name", "a name of an XML element, or empty", _name_or_nothing, {"type": "string"})
NAMESPACE: Final = Kind("uri", "a namespace (a URI)", _uri, {"type": "string"})

OPTIONS: Final = (
    Option("namespace", NAMESPACE, "namespace of the operation; default: the style's, like all of these"),
    Option("service", NAME, "name of the service in the WSDL"),
    Option("port", NAME, "name of the port; that of SOAP 1.2 has 12 behind it where both versions are served"),
    Option("operation", NAME, "name of the operation, and of its element"),
    Option("response", NAME, "name of the element of the answer"),
    Option("wrapper", _WRAPPER, "an element around the parameters, such as `input`; empty: none"),
    Option("action_parameter", NAME, "name of the parameter that says the service"),
    Option("message_parameter", NAME, "name of the parameter that holds the message"),
    Option("result", NAME, "name of the element that holds the answer"),
    Option("binding", choice("document", "rpc"), "document/literal (wrapped) or RPC/literal"),
    Option("qualified", FLAG, "whether the parameters are in the namespace; both are taken, the WSDL and the answer say it"),
    Option("versions", ListOf(choice("1.1", "1.2")), "SOAP versions that are served"),
    Option("soap_action", ACTION, "SOAP action that the WSDL says; {namespace}, {service}, {port}, {operation} stand for those names"),
    Option("message_as", choice(*Carried), "the message is a string (escaped or CDATA), an element (inline), or base64"),
    Option("answer_as", choice("string", "cdata", "inline", "base64"), "the same of the answer; cdata: a string that is not escaped"),
)
_FILE: Final = Spec("style", "How a vendor has built HIPMessageServer.", OPTIONS)


@dataclass(frozen=True, slots=True)
class Style:
    """The options above, each with a value."""

    namespace: str
    service: str
    port: str
    operation: str
    response: str
    wrapper: str
    action_parameter: str
    message_parameter: str
    result: str
    binding: str
    qualified: bool
    versions: tuple[str, ...]
    soap_action: str
    message_as: str
    answer_as: str

    @property
    def layout(self) -> Layout:
        """How a call is read."""
        return Layout(self.action_parameter, self.message_parameter, Carried(self.message_as))

    @property
    def action_uri(self) -> str:
        words = {name: getattr(self, name) for name in _WORDS}
        return re.sub(r"\{(\w+)\}", lambda match: words.get(match[1], match[0]), self.soap_action)


@cache
def shipped(name: str) -> Mapping[str, Any]:
    """The values of a shipped style."""
    faults: list[Fault] = []
    file = FOLDER / f"{name}.yaml"
    settings = _FILE.parse(YAML(typ="safe", pure=True).load(file.read_text("utf-8")), Place(str(file)), faults)
    assert not faults, faults
    return dict(settings)


def style_of(options: Settings) -> Style:
    """The style that an endpoint's options name, with what they say themselves laid over it."""
    values = {name: options[name] if options[name] is not None else value for name, value in shipped(options.style).items()}
    return Style(**{**values, "versions": tuple(dict.fromkeys(values["versions"]))})
