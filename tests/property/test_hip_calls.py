"""Whatever stands in a call: it is read or refused with an answer, never an exception that nobody expects, and never repeats what it holds."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from adapters.soap.hip.options import SOURCE
from adapters.soap.hip.service import HipService
from adapters.soap.hip.style import SHIPPED
from adapters.soap.service import Request
from engine.formats import soap
from engine.formats.hip import SERVICES, Carried, Layout, call_of
from engine.message import ACCEPTED
from tests.support import hip
from tests.support.fhir import context
from tests.support.soap import envelope

V3 = "{urn:hl7-org:v3}"
NAMES = st.sampled_from(
    ["id", "item", "patient", "sender", "device", "controlActProcess", "subject", "clinicalDocument", "storageCode", "originalText", "x"]
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"), max_size=20)
ROOTS = st.sampled_from(sorted({service.root for service in SERVICES.values()}))
ACTIONS = st.one_of(st.sampled_from(["", *SERVICES]), TEXTS)


@st.composite
def trees(draw: st.DrawFn, depth: int = 4) -> etree._Element:
    """Elements that a message has, in any order."""
    element = etree.Element(V3 + draw(NAMES))
    for name in draw(st.lists(st.sampled_from(["root", "extension", "value", "code"]), unique=True)):
        element.set(name, draw(TEXTS))
    if depth:
        element.extend(draw(st.lists(trees(depth=depth - 1), max_size=3)))
    return element


@st.composite
def messages(draw: st.DrawFn) -> str:
    root = etree.Element(V3 + draw(ROOTS), nsmap={None: V3[1:-1]})
    root.extend(draw(st.lists(trees(), max_size=4)))
    return etree.tostring(root, encoding="unicode")


def served(style: str) -> HipService:
    options = SOURCE.defaults(listen=1, style=style)
    return HipService(options, context(Path("/nowhere"), None))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SHIPPED), ACTIONS, st.one_of(messages(), TEXTS, st.just(hip.merge()[:-9])))
def test_every_call_has_an_answer(style: str, action: str, text: str) -> None:
    """Accepted or at fault: the answer is an envelope of the request's version with one acknowledgement."""
    service = served(style)
    names = (service.style.action_parameter, service.style.message_parameter)
    wrapper = hip.call(hip.escape(action), text, service.style.namespace, names, service.style.qualified)
    examined = service.examine(Request(soap.read(envelope(wrapper, service.style.versions[0]))))
    answer = soap.read(examined.answer(examined.judgement or ACCEPTED))
    (result,) = answer.payload
    said = etree.fromstring(result.text.encode()).find(f"{V3}acknowledgement")
    assert said.get("typeCode") == ("AA" if examined.judgement is None else "AE")
    assert answer.version == service.style.versions[0]


@settings(max_examples=100, deadline=None)
@given(messages(), st.sampled_from(list(Carried)))
def test_a_message_is_the_same_however_it_travels(text: str, carried: Carried) -> None:
    """String, element or base64, found with its layout and without."""
    inner = {
        Carried.STRING: hip.escape(text),
        Carried.INLINE: text,
        Carried.BASE64: hip.base64.b64encode(text.encode()).decode(),
    }[carried]
    message = soap.read(envelope(f"<c xmlns='urn:x'><action>OrderInfoAdd</action><message>{inner}</message></c>"))
    for layout in (Layout("action", "message", carried), Layout()):
        if carried is Carried.BASE64 and layout == Layout() and len(text) < 60:
            continue  # too short to be told from a word
        call = call_of(message, layout)
        assert call.action == "OrderInfoAdd"
        assert etree.tostring(call.element, method="c14n", exclusive=True) == etree.tostring(
            etree.fromstring(text), method="c14n", exclusive=True
        )
