"""Whether a registered document is what its message says of it, before anyone hears that it was taken. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from engine.errors import MessageError
from engine.formats import cda
from engine.formats.hip import Registered, registered

UNPROVEN: Final = "patient-unproven"
_NAMED: Final = {
    "id": "id 文档流水号",
    "type": "type 文档类型",
    "title": "title 文档标题",
    "time": "time 生成时间",
    "patient": "patient 患者",
}


@dataclass(frozen=True, slots=True)
class Looked:
    """`fault` is why it does not fit, "" where it does; `fact` says it in a word or two; `root` and `code` where it could be read."""

    fact: str
    fault: str = ""
    location: str = ""
    root: Any = None
    code: str = ""


def look(element: Any) -> Looked:
    """The document of a DocumentRegister message. Never raises."""
    try:
        said = registered(element)
        document = cda.read(said.decoded())
    except MessageError as error:
        return Looked("unreadable", f"the document cannot be read 文档无法读取: {error.text}", error.location)
    wrong = [one.field for one in cda.cross_check(document, _claimed(said, document))]
    differing = [field for field in wrong if field != UNPROVEN]
    if not differing:
        return Looked(UNPROVEN if wrong else "agrees", root=document.root, code=document.code.code)
    fault = f"the document and its message differ 文档与消息不一致: {', '.join(_NAMED.get(field, field) for field in differing)}"
    return Looked(f"differs: {' '.join(differing)}", fault, root=document.root, code=document.code.code)


def _claimed(said: Registered, document: cda.ClinicalDocument) -> cda.Claimed:
    """The code system of the type is another in the message than in the document; its name there is that of the type, which a title may
    say with more around it (a hospital's name)."""
    ids = [cda.Id(one.root, one.extension) for one in said.ids]
    own = next((one for one in ids if one.extension == document.id.extension), ids[0] if ids else cda.Id())
    name, title = "".join(said.name.split()), "".join(document.title.split())
    alike = name in title or title in name
    patients = tuple(cda.Id(one.root, one.extension) for one in said.patients)
    return cda.Claimed(own, cda.Code(said.code), "" if alike else said.name, said.time, patients)
