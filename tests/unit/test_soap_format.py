"""SOAP messages: what is read, what is refused, and in which words."""

from __future__ import annotations

import base64
import hashlib
import pickle
from pathlib import Path

import pytest
from lxml import etree

from engine import registry
from engine.errors import LocalProtocolError, ParseError
from engine.formats import soap
from engine.formats.soap.media import parse_media_type
from engine.message import SOAP
from tests.support.soap import BOUNDARY, NS, WSA, addressed, envelope, in_file, in_parts, include, kept, part, related

DOCUMENT = b"\x00\xffPDF\r\n--not the delimiter" * 50
HOLDER = "<Order xmlns='urn:lab'><id>1</id><file>{}</file></Order>"


def mtom(href: str = "cid:a%40b", *more: bytes, version: str = "1.1") -> bytes:
    root = envelope(HOLDER.format(include(href)), version)
    return kept(related(version), in_parts(root, part(DOCUMENT, "a@b", "application/pdf"), *more, version=version))


def refused(body: bytes, words: str) -> ParseError:
    with pytest.raises(ParseError, match=words) as raised:
        soap.read(body)
    return raised.value


class TestEnvelope:
    @pytest.mark.parametrize("version", ["1.1", "1.2"])
    def test_both_versions(self, version: str) -> None:
        message = soap.read(envelope(version=version, header=addressed()))
        assert (message.version, message.payload.tag) == (version, "{urn:lab}Order")
        assert message.header is not None
        assert message.addressing.action == "urn:lab:order"
        assert not message.parts

    def test_an_empty_body_has_no_payload(self) -> None:
        assert soap.read(envelope("")).payload is None

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"<Envelope/>", "no SOAP version"),
            (b"<e:Envelope xmlns:e='http://www.w3.org/2001/12/soap-envelope'/>", "no SOAP version"),
            (b"<a/>", "no Envelope"),
            (envelope("<a/><b/>"), "one element"),
            (envelope().replace(b"</s:Envelope>", b"<s:Body/></s:Envelope>"), "nothing else"),
            (envelope().replace(b"</s:Envelope>", b"<x/></s:Envelope>"), "nothing else"),
            (envelope(header="<x/>").replace(b"<s:Body>", b"<s:Header/><s:Body>"), "nothing else"),
            (f"<s:Envelope xmlns:s='{NS['1.1']}'/>".encode(), "then a Body"),
            (b"<!DOCTYPE a>" + envelope(), "document type"),
            (b"", "no XML document"),
        ],
    )
    def test_what_is_no_message(self, body: bytes, words: str) -> None:
        refused(body, words)

    def test_headers_to_understand(self) -> None:
        """Those for us, not those for another node on the way."""
        for version, actor in (("1.1", "actor"), ("1.2", "role")):
            blocks = "".join(
                f"<h{n} xmlns='urn:x' s:mustUnderstand='{must}' {f's:{actor}={role!r}' if role else ''}/>"
                for n, (must, role) in enumerate([("1", ""), ("true", ""), ("0", ""), ("1", "urn:other"), ("1", "")])
            )
            found = soap.read(envelope(version=version, header=blocks)).to_understand()
            assert [element.tag for element in found] == ["{urn:x}h0", "{urn:x}h1", "{urn:x}h4"]


class TestParts:
    @pytest.mark.parametrize("href", ["cid:a%40b", "cid:a@b"])
    @pytest.mark.parametrize("version", ["1.1", "1.2"])
    def test_an_include_is_resolved(self, href: str, version: str) -> None:
        message = soap.read(mtom(href, version=version))
        found = message.content_of(message.payload[1])
        assert (found.content_id, found.content_type, found.size) == ("a@b", "application/pdf", len(DOCUMENT))
        assert bytes(found.content) == DOCUMENT
        assert found.sha256() == hashlib.sha256(DOCUMENT).hexdigest()
        assert found.sha1() == hashlib.sha1(DOCUMENT).digest()

    def test_a_file_reads_as_the_same(self, tmp_path: Path) -> None:
        """Mapped, and through a worker's pipe."""
        message = soap.read(pickle.loads(pickle.dumps(in_file(tmp_path, mtom()))))
        assert message.content_of(message.payload[1]).sha256() == hashlib.sha256(DOCUMENT).hexdigest()

    def test_what_is_bigger_than_a_window(self, tmp_path: Path) -> None:
        """The delimiter lies across the edge of what is looked at at once."""
        root = envelope(HOLDER.format(include("cid:big")))
        for size in (1 << 20, *((1 << 20) - 500 - n for n in range(0, 40, 7)), 9 << 20):
            content = b"\r\n--uuid" * (size // 8)
            message = soap.read(in_file(tmp_path, kept(related(), in_parts(root, part(content, "big")))))
            assert message.parts["big"].sha256() == hashlib.sha256(content).hexdigest()

    def test_inline_base64(self) -> None:
        """Laid out over lines; with what its media type is."""
        text = base64.encodebytes(DOCUMENT).decode()
        message = soap.read(envelope(f"<f xmlns:m='http://www.w3.org/2005/05/xmlmime' m:contentType='application/pdf'>\n {text} </f>"))
        found = message.content_of(message.payload)
        assert (found.content, found.content_type, found.content_id) == (DOCUMENT, "application/pdf", "")
        for text in ("a", "=", "äöü", "<x/>"):
            message = soap.read(envelope(f"<f>{text}</f>"))
            with pytest.raises(ParseError) as raised:
                message.content_of(message.payload)
            assert raised.value.location == "f"

    def test_without_start_the_first_is_the_root(self) -> None:
        root = envelope(HOLDER.format(include("cid:a@b")))
        body = kept(related(start=""), in_parts(root, part(DOCUMENT, "a@b")))
        assert list(soap.read(body).parts) == ["a@b"]

    def test_start_names_a_later_part(self) -> None:
        root = part(envelope(HOLDER.format(include("cid:a@b"))), "root@a", "application/xop+xml; type='text/xml'")
        body = part(DOCUMENT, "a@b") + root + f"--{BOUNDARY}--".encode()
        assert list(soap.read(kept(related(), body)).parts) == ["a@b"]

    def test_transfer_encodings(self) -> None:
        coded = base64.encodebytes(DOCUMENT).replace(b"\n", b"\r\n")
        for encoding, content in (("binary", DOCUMENT), ("8bit", DOCUMENT), ("BASE64", coded)):
            root = envelope(HOLDER.format(include("cid:a@b")))
            body = kept(related(), in_parts(root, part(content, "a@b", Content_Transfer_Encoding=encoding)))
            assert bytes(soap.read(body).parts["a@b"].content) == DOCUMENT
        refused(kept(related(), in_parts(envelope(), part(b"=41", "a", Content_Transfer_Encoding="quoted-printable"))), "transfer encoding")

    def test_many_parts_in_base64_are_as_much_as_one(self) -> None:
        """They are decoded in memory: a gigabyte of them in parts that are each small enough would be there at once."""
        encoded = part(b"QUFB" * (5 << 20), "{}", Content_Transfer_Encoding="base64")
        many = [encoded.replace(b"{}", b"%d" % number) for number in range(4)]
        refused(kept(related(), in_parts(envelope(), *many)), "too big")
        assert len(soap.read(kept(related(), in_parts(envelope(), *many[:3]))).parts) == 3

    def test_one_part_that_stands_in_many_places(self) -> None:
        """Hashing ten megabytes for each of a hundred thousand Includes would keep a thread for a day."""
        brought, held = part(b"x" * 1_000_000, "a"), f"<f>{include('cid:a')}</f>"
        for times, taken in ((20, True), (21, False)):
            root = envelope(f"<Order>{held * times}</Order>")
            if taken:
                soap.read(kept(related(), in_parts(root, brought)))
            else:
                refused(kept(related(), in_parts(root, brought)), "4 times")

    def test_headers_over_several_lines(self) -> None:
        """As MIME has them."""
        body = in_parts(envelope()).replace(b"; type=", b";\r\n\ttype=")
        assert soap.read(kept(related(), body)).payload.tag == "{urn:lab}Order"

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (mtom("cid:other"), "part that is not there"),
            (mtom("cid:root@a"), "part that is not there"),
            (mtom("http://a/b"), "does not refer by cid"),
            (mtom("cid:a@b", part(b"", "a@b")), "another part has"),
            (mtom("cid:a@b", part(b"", "root@a")), "names no part of the message, or several"),
            (mtom("cid:a@b", part(b"", "")), "no Content-ID"),
            (envelope(HOLDER.format(include("cid:a@b"))), "part that is not there"),
            (kept(related(), in_parts(envelope(HOLDER.format("x" + include("cid:a"))), part(b"", "a"))), "not alone"),
            (kept(related(start="<x>"), in_parts(envelope())), "start parameter"),
            (kept(related(), in_parts(envelope()).removesuffix(b"--\r\n")), "without its close delimiter"),
            (kept(related(), in_parts(envelope()).removesuffix(f"--{BOUNDARY}--\r\n".encode())), "without its close delimiter"),
            (kept(related(), in_parts(envelope(), f"--{BOUNDARY}x\r\n\r\n".encode())), "malformed"),
            (kept(related(), b"x" * 10000), "does not begin with its boundary"),
            (kept("multipart/related", in_parts(envelope())), "boundary is missing"),
            (kept("text/xml", envelope()), "not multipart/related"),
            (kept("?", envelope()), "media type"),
            (b"Content-Type: multipart/related", "not multipart/related"),
            (kept(related(), part(envelope(), "root@a", "text/plain") + f"--{BOUNDARY}--".encode()), "not SOAP"),
            (kept(related(), f"--{BOUNDARY}--".encode()), "no part"),
            (kept(related(), in_parts(envelope(), part(b"", "a", Content_type="x"))), "header field of a part is malformed"),
            (kept(related(), in_parts(envelope(), *[part(b"", str(n)) for n in range(1001)])), "too many parts"),
        ],
    )
    def test_what_is_refused(self, body: bytes, words: str) -> None:
        refused(body, words)

    def test_limits_hold_for_the_envelope(self) -> None:
        """And not for attachments."""
        limits = soap.LIMITS.__class__(size=600)
        assert soap.read(mtom(), limits).parts
        with pytest.raises(ParseError, match="more than 600 bytes"):
            soap.read(kept(related(), in_parts(envelope("<a>" + "x" * 600 + "</a>"))), limits)


class TestDigest:
    def test_of_attachments_not_of_their_names(self) -> None:
        """And the message is left as it was."""
        again = mtom("cid:other", part(DOCUMENT, "other")).replace(b"a@b", b"c@d")
        first, second = soap.read(mtom()), soap.read(again)
        assert soap.content_digest(first) == soap.content_digest(second) == soap.content_digest(first)
        assert first.payload[1][0].get("href") == "cid:a%40b"
        assert soap.content_digest(soap.read(mtom().replace(b"PDF", b"DOC"))) != soap.content_digest(first)

    def test_without_a_canonical_form(self) -> None:
        """A namespace that is a relative reference: bad, and seen."""
        one, other = (soap.read(envelope(f"<Order xmlns='hospital'><id>{n}</id></Order>")) for n in (1, 2))
        assert soap.content_digest(one) != soap.content_digest(other)
        assert soap.content_digest(soap.read(envelope(""))) == hashlib.sha256().digest()


class TestMediaType:
    def test_quoted_parameters(self) -> None:
        found = parse_media_type(r'multipart/Related; Boundary="a;\"b"; start=<x@y>;')
        assert (found.name, dict(found.parameters)) == ("multipart/related", {"boundary": 'a;"b', "start": "<x@y>"})

    @pytest.mark.parametrize("text", ["", "text", "text/xml; a=1; A=2", "text/xml, a/b", "a/b" + " " * 5000])
    def test_refused(self, text: str) -> None:
        with pytest.raises(ParseError):
            parse_media_type(text)


class TestAddressing:
    @pytest.mark.parametrize("uri", [WSA, "http://schemas.xmlsoap.org/ws/2004/08/addressing"])
    def test_read_and_answered(self, uri: str) -> None:
        anonymous = {WSA: f"{WSA}/anonymous"}.get(uri, f"{uri}/role/anonymous")
        found = soap.read(envelope(header=addressed(reply_to=anonymous).replace(WSA, uri))).addressing
        assert found.answers_here
        assert found.expected
        reply = {etree.QName(block).localname: block for block in soap.reply_headers(found, "urn:answer", "urn:uuid:2")}
        assert {name: block.text for name, block in reply.items()} == {
            "Action": "urn:answer",
            "MessageID": "urn:uuid:2",
            "RelatesTo": "urn:uuid:1",
        }
        assert {etree.QName(block).namespace for block in reply.values()} == {uri}

    def test_who_did_not_ask_is_not_told(self) -> None:
        assert soap.reply_headers(soap.read(envelope()).addressing, "urn:answer") == []

    def test_elsewhere_and_nowhere(self) -> None:
        assert not soap.read(envelope(header=addressed(reply_to="http://a/b"))).addressing.answers_here
        assert soap.read(envelope(header=addressed(reply_to=f"{WSA}/none"))).addressing.answers_nowhere

    @pytest.mark.parametrize(
        ("header", "subcode", "subsubcode"),
        [
            (addressed() + addressed(), "InvalidAddressingHeader", "InvalidCardinality"),
            (addressed() + addressed().replace("2005/08", "2005/08").replace(WSA, "http://schemas.xmlsoap.org/ws/2004/08/addressing"),
             "InvalidAddressingHeader", ""),
            (f"<a:MessageID xmlns:a='{WSA}'>1</a:MessageID>", "MessageAddressingHeaderRequired", ""),
            (addressed() + f"<a:ReplyTo xmlns:a='{WSA}'/>", "InvalidAddressingHeader", "MissingAddressInEPR"),
            (addressed("x" * 3000), "InvalidAddressingHeader", ""),
        ],
    )  # fmt: skip
    def test_faults(self, header: str, subcode: str, subsubcode: str) -> None:
        with pytest.raises(soap.AddressingError) as raised:
            soap.read(envelope(header=header))
        assert (raised.value.subcode, raised.value.subsubcode) == (subcode, subsubcode)


class TestFaults:
    def test_11(self) -> None:
        """faultcode, faultstring, detail: names without a namespace."""
        detail = etree.Element("{urn:x}why")
        written = soap.fault_envelope("1.1", soap.SoapFault(soap.SENDER, "no", detail=detail))
        message = soap.read(written)
        assert [child.tag for child in message.payload] == ["faultcode", "faultstring", "detail"]
        assert message.payload[0].text == "soap:Client"
        assert message.payload[2][0].tag == "{urn:x}why"

    @pytest.mark.parametrize("version", ["1.1", "1.2"])
    @pytest.mark.parametrize("code", [soap.SENDER, soap.RECEIVER, soap.MUST_UNDERSTAND, soap.VERSION_MISMATCH])
    def test_what_is_written_is_read(self, version: str, code: str) -> None:
        fault = soap.SoapFault(code, "why & wherefore", detail=[etree.Element("a"), etree.Element("b")])
        back = soap.read_fault(soap.read(soap.fault_envelope(version, fault)).payload)
        assert back is not None
        assert (back.fault_code, back.text, [one.tag for one in back.detail]) == (code, "why & wherefore", ["a", "b"])

    def test_subcodes(self) -> None:
        fault = soap.SoapFault(soap.SENDER, "no", "{urn:x}A", subsubcode="{urn:x}B")
        for version in ("1.1", "1.2"):
            back = soap.read_fault(soap.read(soap.fault_envelope(version, fault)).payload)
            assert back is not None
            assert (back.subcode, back.subsubcode) == ("{urn:x}A", "{urn:x}B" if version == "1.2" else "")
        assert soap.read_fault(soap.read(envelope()).payload) is None

    def test_must_understand_names_the_header(self) -> None:
        blocks = soap.read(envelope(version="1.2", header="<p:h xmlns:p='urn:x' s:mustUnderstand='1'/>")).to_understand()
        message = soap.read(soap.fault_envelope("1.2", soap.must_understand(blocks)))
        (named,) = message.header
        prefix, _, name = named.get("qname").partition(":")
        assert (named.tag, named.nsmap[prefix], name) == (f"{{{NS['1.2']}}}NotUnderstood", "urn:x", "h")

    def test_version_mismatch_offers_what_is_taken(self) -> None:
        message = soap.read(soap.fault_envelope("1.1", soap.version_mismatch(["1.2", "1.1"])))
        offered = [one.nsmap[one.get("qname").partition(":")[0]] for one in message.header[0]]
        assert offered == [NS["1.2"], NS["1.1"]]

    def test_addressing_faults_name_the_header(self) -> None:
        """In Detail by 1.2; by 1.1, whose detail is for the Body, in a header. With the request's RelatesTo."""
        error = soap.AddressingError("twice", subcode="InvalidAddressingHeader", subsubcode="InvalidCardinality", header=f"{{{WSA}}}To")
        for version in ("1.1", "1.2"):
            written = soap.fault_envelope(version, soap.addressing_fault(error), soap.Addressing("a", "urn:uuid:9", namespace=WSA))
            message = soap.read(written)
            (named,) = message.root.iter(f"{{{WSA}}}ProblemHeaderQName")
            prefix, _, name = named.text.partition(":")
            assert (named.nsmap[prefix], name) == (WSA, "To")
            assert (message.header in list(named.iterancestors())) is (version == "1.1")
            assert message.addressing.relates_to == "urn:uuid:9"
            assert message.addressing.action == f"{WSA}/fault"


class TestWriting:
    def test_what_it_holds_is_copied(self) -> None:
        payload = etree.fromstring("<a><b/></a>")
        first = soap.envelope("1.2", payload[0], [payload])
        assert soap.envelope("1.2", payload[0], [payload]) == first
        assert len(payload) == 1

    def test_a_package_out_of_files(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"before" + DOCUMENT)
        holder = etree.Element("file")
        holder.append(soap.include("ä@b c".encode("ascii", "ignore").decode()))
        attachment = soap.Attachment("@b c", "application/pdf", soap.FilePart(path, 6, len(DOCUMENT)))
        package = soap.package("1.2", soap.envelope("1.2", holder), [attachment], "gX" * 15, "urn:do it")
        body = b"".join(package.pieces(100))
        assert len(body) == package.length
        message = soap.read(soap.kept_form(package.content_type) + body)
        assert bytes(message.content_of(message.payload).content) == DOCUMENT
        assert parse_media_type(package.content_type).get("action") == "urn:do it"
        path.write_bytes(b"short")
        with pytest.raises(OSError, match="shorter"):
            list(package.pieces())

    def test_attachments_have_names_of_their_own(self) -> None:
        for names in (["a", "a"], [""], ["a\r\nb"], ["<a>"]):
            with pytest.raises(LocalProtocolError):
                soap.package("1.1", b"", [soap.Attachment(name, "", b"") for name in names], "b")


class TestCodec:
    BODY = envelope(
        "<Order xmlns='urn:lab' xmlns:x='urn:x' x:kind='K'><id root='1.2'>7</id><id>8 <b>9</b></id></Order>", header=addressed()
    )

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("Order/id", "7"), ("Order/id[2]", "8 9"), ("Order/id/@root", "1.2"), ("Order/@kind", "K"), ("Order/id[3]", None),
            ("Other/id", None), ("Order/id/x/y", None), ("Header/MessageID", "urn:uuid:1"), ("Order/id/@x", None), ("Order[2]", None),
        ],
    )  # fmt: skip
    def test_paths(self, path: str, value: str | None) -> None:
        codec = registry.codec(SOAP)
        assert codec is not None
        assert codec.decode(self.BODY).get(path) == value

    @pytest.mark.parametrize("path", ["", "/", "Order/", "@id", "Order/@a/b", "Order/id[0]", "Order id", "//id", "1a"])
    def test_what_is_no_path(self, path: str) -> None:
        with pytest.raises(ValueError, match="not a path"):
            soap.codec.check_path(path)

    def test_a_message_in_a_file(self, tmp_path: Path) -> None:
        """It is read as a whole, though only its beginning is given."""
        assert soap.codec.headers
        assert soap.codec.decode(in_file(tmp_path, mtom())).get("Order/id") == "1"
