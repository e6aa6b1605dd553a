"""Signature wrapping: what was signed stands where it is not used, and what is used was not signed. All of it is refused."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree

from adapters.soap.security.algorithms import sign
from adapters.soap.security.canonical import canonical
from adapters.soap.security.names import ENVELOPED, EXCLUSIVE_C14N, ds, wsse, wsu
from adapters.soap.security.refusal import Code
from adapters.soap.security.trust import Trust
from engine.formats.xml import parse
from tests.support.soap import NS
from tests.support.wsse import Signers, at, judged, plain, refused, signed

EVIL = f"<s:Body xmlns:s='{NS['1.1']}'><o:Order xmlns:o='urn:lab'><o:id>666</o:id></o:Order></s:Body>"
BODY, HEADER, SECURITY = "/s11:Envelope/s11:Body", "/s11:Envelope/s11:Header", "/s11:Envelope/s11:Header/wsse:Security"
SIGNATURE = SECURITY + "/ds:Signature"


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Signers:
    made = Signers(tmp_path_factory.mktemp("wrapping"))
    made.rsa()
    return made


@pytest.fixture(scope="module")
def trust(signers: Signers) -> Trust:
    return signers.trust()


@pytest.fixture(scope="module")
def message(signers: Signers) -> bytes:
    return signed(signers.folder / "lab")


def evil(root: etree._Element, same_id: bool = False) -> etree._Element:
    """Another Body, with the id of the one that was signed or none."""
    body = etree.fromstring(EVIL)
    if same_id:
        body.set(wsu("Id"), at(root, BODY).get(wsu("Id")))
    return body


def moved_into_a_header(root: etree._Element) -> None:
    """The classic: the signed Body in a header block that nobody knows, another one in its place."""
    original = at(root, BODY)
    root.replace(original, evil(root))
    etree.SubElement(at(root, HEADER), "{urn:x}Wrapper").append(original)


def moved_into_security(root: etree._Element) -> None:
    original = at(root, BODY)
    root.replace(original, evil(root))
    at(root, SECURITY).append(original)


def moved_to_be_a_header(root: etree._Element) -> None:
    """It stands at a place where signed elements may stand: it is a header block, and no Body was signed."""
    original = at(root, BODY)
    root.replace(original, evil(root))
    at(root, HEADER).append(original)


def moved_into_the_new_body(root: etree._Element) -> None:
    original = at(root, BODY)
    other = evil(root)
    root.replace(original, other)
    other.append(original)


def moved_into_the_signature(root: etree._Element) -> None:
    """In a ds:Object, which a signature may have."""
    original = at(root, BODY)
    root.replace(original, evil(root))
    etree.SubElement(at(root, SIGNATURE), ds("Object")).append(original)


def second_body_before(root: etree._Element) -> None:
    at(root, BODY).addprevious(evil(root))


def second_body_behind(root: etree._Element) -> None:
    at(root, BODY).addnext(evil(root))


def same_id_in_a_header(root: etree._Element) -> None:
    """The first of two is what some readers find."""
    original, other = at(root, BODY), evil(root, same_id=True)
    root.replace(original, other)
    etree.SubElement(at(root, HEADER), "{urn:x}Wrapper").append(original)


def _other_spelling(name: str) -> Callable[[etree._Element], None]:
    def collide(root: etree._Element) -> None:
        original, other = at(root, BODY), evil(root)
        other.set(name, original.get(wsu("Id")))
        root.replace(original, other)
        at(root, HEADER).append(original)

    collide.__name__ = f"same id as {name}"
    return collide


def _renamed(name: str) -> Callable[[etree._Element], None]:
    """The id of the signed Body is moved to another spelling of the attribute in the one that is used."""

    def rename(root: etree._Element) -> None:
        other = evil(root)
        other.set(name, at(root, BODY).get(wsu("Id")))
        root.replace(at(root, BODY), other)

    rename.__name__ = f"id only as {name}"
    return rename


def nested_envelope(root: etree._Element) -> None:
    """The whole signed envelope in the Body of another one, which has its Security header too."""
    inner = deepcopy(root)
    body = at(root, BODY)
    root.replace(body, evil(root))
    at(root, BODY).append(inner)


def nested_envelope_outside(root: etree._Element) -> None:
    """The signed parts only within, and a Security header that refers to them."""
    inner = deepcopy(root)
    inner_security = inner.xpath("//wsse:Security", namespaces={"wsse": wsse("x")[1:].partition("}")[0]})[0]
    inner_security.getparent().remove(inner_security)
    root.replace(at(root, BODY), evil(root))
    etree.SubElement(at(root, HEADER), "{urn:x}Wrapper").append(inner)


def header_in_a_header(root: etree._Element) -> None:
    """The Security header with the signature is a level too deep."""
    security = at(root, SECURITY)
    etree.SubElement(at(root, HEADER), "{urn:x}Wrapper").append(security)


def two_security_headers(root: etree._Element) -> None:
    at(root, HEADER).insert(0, etree.Element(wsse("Security")))


def signature_in_anothers_header(root: etree._Element) -> None:
    """Ours is empty; the signature is in the one for another actor."""
    at(root, SECURITY).set(f"{{{NS['1.1']}}}actor", "urn:somebody")
    etree.SubElement(at(root, HEADER), wsse("Security"))


def token_in_anothers_header(root: etree._Element) -> None:
    other = etree.SubElement(at(root, HEADER), wsse("Security"))
    other.set(f"{{{NS['1.1']}}}actor", "urn:somebody")
    other.append(at(root, SECURITY + "/wsse:BinarySecurityToken"))


def timestamp_in_anothers_header(root: etree._Element) -> None:
    other = etree.SubElement(at(root, HEADER), wsse("Security"))
    other.set(f"{{{NS['1.1']}}}actor", "urn:somebody")
    other.append(at(root, SECURITY + "/wsu:Timestamp"))


def second_timestamp(root: etree._Element) -> None:
    copy = deepcopy(at(root, SECURITY + "/wsu:Timestamp"))
    copy.attrib.clear()
    at(root, SECURITY).insert(0, copy)


def second_signature(root: etree._Element) -> None:
    at(root, SECURITY).append(deepcopy(at(root, SIGNATURE)))


def no_uri(root: etree._Element) -> None:
    del at(root, SIGNATURE + "//ds:Reference[1]").attrib["URI"]


def empty_uri(root: etree._Element) -> None:
    """The whole document without the signature, as enveloped signatures have it."""
    reference = at(root, SIGNATURE + "//ds:Reference[1]")
    reference.set("URI", "")
    reference.find(ds("Transforms")).insert(0, etree.Element(ds("Transform"), Algorithm=ENVELOPED))


def _transform(algorithm: str) -> Callable[[etree._Element], None]:
    def add(root: etree._Element) -> None:
        at(root, SIGNATURE + "//ds:Reference[1]/ds:Transforms").insert(0, etree.Element(ds("Transform"), Algorithm=algorithm))

    add.__name__ = f"transform {algorithm}"
    return add


def _uri(uri: str) -> Callable[[etree._Element], None]:
    def put(root: etree._Element) -> None:
        at(root, SIGNATURE + "//ds:Reference[1]").set("URI", uri)

    put.__name__ = f"URI {uri}"
    return put


def reference_left_out(root: etree._Element) -> None:
    """Only the Timestamp is signed."""
    info = at(root, SIGNATURE + "/ds:SignedInfo")
    info.remove(at(root, SIGNATURE + "//ds:Reference[1]"))


def digest_in_two_pieces(root: etree._Element) -> None:
    value = at(root, SIGNATURE + "//ds:Reference[1]/ds:DigestValue")
    value.append(etree.Element(ds("x")))


def header_behind_body(root: etree._Element) -> None:
    root.append(at(root, HEADER))


VARIANTS = [
    moved_into_a_header,
    moved_into_security,
    moved_to_be_a_header,
    moved_into_the_new_body,
    moved_into_the_signature,
    second_body_before,
    second_body_behind,
    same_id_in_a_header,
    *map(_other_spelling, ("Id", "ID", "id", "{http://www.w3.org/XML/1998/namespace}id", "{urn:x}Id")),
    *map(_renamed, ("Id", "ID", "id", "{http://www.w3.org/XML/1998/namespace}id", "{urn:x}Id")),
    nested_envelope,
    nested_envelope_outside,
    header_in_a_header,
    two_security_headers,
    signature_in_anothers_header,
    token_in_anothers_header,
    timestamp_in_anothers_header,
    second_timestamp,
    second_signature,
    no_uri,
    empty_uri,
    *map(
        _transform,
        (
            "http://www.w3.org/TR/1999/REC-xpath-19991116",
            "http://www.w3.org/2002/06/xmldsig-filter2",
            "http://www.w3.org/TR/1999/REC-xslt-19991116",
            "http://www.w3.org/2000/09/xmldsig#base64",
            "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#STR-Transform",
            "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
            EXCLUSIVE_C14N + "WithComments",
        ),
    ),
    *map(_uri, ("#", "#xpointer(/)", "#xpointer(id('x'))", "cid:part@a", "http://example.org/x", "#nothing-has-this")),
    reference_left_out,
    digest_in_two_pieces,
    header_behind_body,
]


class TestWrapping:
    def test_untouched_it_is_taken_and_the_body_is_the_element_itself(self, message: bytes, trust: Trust) -> None:
        """So that what is refused below is refused for what was done to it."""
        root = parse(message)
        proof = judged(root, trust)
        assert proof.party == "urn:meridian:party:lab"
        assert proof.covers(at(root, BODY))
        assert not proof.covers(at(root, HEADER))
        assert not proof.covers(deepcopy(at(root, BODY)))

    @pytest.mark.parametrize("change", VARIANTS, ids=lambda change: change.__name__)
    def test_refused(self, change: Callable[[etree._Element], None], message: bytes, trust: Trust) -> None:
        root = parse(message)
        change(root)
        fault, why = refused(etree.tostring(root), trust)
        assert fault in (Code.INVALID_SECURITY, Code.FAILED_CHECK, Code.UNSUPPORTED_ALGORITHM)
        assert "666" not in why

    @pytest.mark.parametrize(
        "change",
        [
            one
            for one in VARIANTS
            if one.__name__.startswith(("moved_to_be", "transform", "URI", "no_uri", "empty_uri", "reference_left", "digest"))
        ],
        ids=lambda change: change.__name__,
    )
    def test_refused_too_when_it_is_signed_like_that(
        self, change: Callable[[etree._Element], None], signers: Signers, message: bytes, trust: Trust
    ) -> None:
        """By one who has a certificate: the structure alone is refused, not only a signature that no longer fits."""
        root = parse(message)
        change(root)
        _sign_again(root, signers.folder / "lab")
        assert refused(root, trust)[1] != "the signature is wrong"

    def test_header_blocks_that_are_not_signed_are_known_as_such(self, signers: Signers, trust: Trust) -> None:
        header = "<a:Action xmlns:a='http://www.w3.org/2005/08/addressing'>urn:lab:order</a:Action>"
        message = signed(signers.folder / "lab", plain(header=header))
        root = parse(message)
        assert not judged(root, trust, signed=("body", "timestamp")).covers(at(root, HEADER)[0])
        assert refused(message, trust) == (Code.FAILED_CHECK, "not signed: addressing")

    def test_an_id_that_stands_twice_elsewhere_is_refused_too(self, signers: Signers, trust: Trust) -> None:
        payload = "<x xmlns:u='{}' u:Id='a'><y u:Id='a'/></x>".format(wsu("x")[1:].partition("}")[0])
        assert refused(signed(signers.folder / "lab", plain(payload)), trust) == (Code.INVALID_SECURITY, "a wsu:Id stands twice")

    def test_ids_of_a_document_inside_are_its_own(self, signers: Signers, trust: Trust) -> None:
        """Two CDA documents in one message may use the same ID; nothing here refers to it."""
        judged(signed(signers.folder / "lab", plain("<x><y ID='a1'/><z ID='a1'/></x>")), trust)

    def test_a_comment_cannot_cut_a_value(self, message: bytes, trust: Trust) -> None:
        """Neither the reader nor the digest sees it, so that both see the same text."""
        root = parse(message.replace(b"<o:id>17</o:id>", b"<o:id>1<!-- x -->7</o:id>"))
        assert judged(root, trust).covers(at(root, BODY))
        assert at(root, "//*[local-name() = 'id']").text == "17"

    def test_a_processing_instruction_in_the_body_was_not_signed_but_is_not_read_either(self, message: bytes, trust: Trust) -> None:
        root = parse(message.replace(b"<o:id>17</o:id>", b"<o:id>1<?x 9?>7</o:id>"))
        judged(root, trust)
        assert at(root, "//*[local-name() = 'id']").text == "17"


def _sign_again(root: etree._Element, folder: Path) -> None:
    """What is there as SignedInfo, whatever it says."""
    key = load_pem_private_key((folder / "node.key").read_bytes(), None)
    info = at(root, SIGNATURE + "/ds:SignedInfo")
    at(root, SIGNATURE + "/ds:SignatureValue").text = b64encode(sign(key, "sha256", canonical(info))).decode()
