"""XML from strangers: what is refused, and in which words."""

from __future__ import annotations

import tracemalloc

import pytest

from engine.errors import ParseError
from engine.formats.xml import Limits, parse

DTD = '<!DOCTYPE a [<!ENTITY b "ha">]><a b="&b;"/>'
LAUGHS = b'<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><a>&c;</a>'
EXTERNAL = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'


class TestRefused:
    @pytest.mark.parametrize("body", [LAUGHS, EXTERNAL, b'<?xml version="1.0"?>\n<!-- <a/> --> <?p?><!DOCTYPE a><a/>', b"<!DOCTYPE a>"])
    def test_a_document_type(self, body: bytes) -> None:
        with pytest.raises(ParseError, match="document type declaration"):
            parse(body)

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
    def test_a_document_type_in_wide_characters(self, encoding: str) -> None:
        with pytest.raises(ParseError, match="document type declaration"):
            parse('<?xml version="1.0" encoding="utf-16"?> <!DOCTYPE a><a/>'.encode(encoding))

    @pytest.mark.parametrize("name", ["UTF-7", "utf-32", "EBCDIC-CP-US", "IBM037"])
    def test_a_character_set_that_could_hide_one(self, name: str) -> None:
        with pytest.raises(ParseError, match="character set"):
            parse(f'<?xml version="1.0" encoding="{name}"?><a/>'.encode())
        with pytest.raises(ParseError, match="character set"):
            parse(b"<a/>", charset=name)

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"<a>&b;</a>", "undeclared entity"),
            (b"<a><b></a>", "tag name mismatch"),
            (b"", "no XML document"),
            (b" ", "document empty"),
            (b"<a/><b/>", "document end"),
            (b"<a>\xff</a>", "encoding"),
            (b"<a>\x00</a>", "invalid char"),
            (b'<a x="1" x="2"/>', "attribute redefined"),
        ],
    )
    def test_what_is_not_well_formed(self, body: bytes, words: str) -> None:
        with pytest.raises(ParseError, match=words):
            parse(body)

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (DTD.encode("utf-32"), "invalid char|document empty"),
            (DTD.encode("utf-32-le"), "invalid char|document empty|name required"),
            (DTD.encode("utf-32-be"), "invalid char|document empty"),
            (b'<?xml version="1.0"?>'.decode().encode("cp037") + DTD.encode("cp037"), "encoding|document empty"),
            (b'<?xml version="1.0"' + b" " * 300 + b'encoding="UTF-7"?>+ADwAIQ-DOCTYPE a><a/>', "document empty"),
            (f'<?xml version="1.0"?><!--{"x" * 70000}-->{DTD}'.encode("utf-16"), "before the root"),
        ],
        ids=["UTF-32", "UTF-32LE", "UTF-32BE", "EBCDIC", "UTF-7 declared far away", "UTF-16 far away"],
    )
    def test_no_encoding_hides_a_document_type(self, body: bytes, words: str) -> None:
        """The parser never reads one: it is told the encoding in which the prolog was looked at."""
        with pytest.raises(ParseError, match=words):
            parse(body)

    @pytest.mark.parametrize("piece", [b"<??>", b"<!---->", b" ", b"<!--", b"<?a "])
    def test_a_prolog_without_end(self, piece: bytes) -> None:
        """It must not cost more than it is long: an expression that may go back over a million comments takes 50 bytes for each."""
        body = piece * (4_000_000 // len(piece)) + b"<a/>"
        tracemalloc.start()
        try:
            with pytest.raises(ParseError, match="before the root"):
                parse(body)
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()

    def test_its_words_hold_nothing_of_the_content(self) -> None:
        with pytest.raises(ParseError) as raised:
            parse(b"<a><ZhangSan>13800000000</b></a>")
        assert "Zhang" not in str(raised.value)
        assert "138" not in str(raised.value)

    def test_limits(self) -> None:
        for body, limits, words in (
            (b"<a>" * 6 + b"</a>" * 6, Limits(depth=5), "deeper than 5"),
            (b"<a>" + b"<b/>" * 10 + b"</a>", Limits(elements=10), "more than 10 elements"),
            (b'<a b="" c="" d=""/>', Limits(attributes=2), "more than 2 attributes"),
            (b'<a xmlns:b="b"><c xmlns:d="d" xmlns:e="e"/></a>', Limits(namespaces=2), "more than 2 namespaces"),
            (b"<a>" + b" " * 93 + b"</a>", Limits(size=99), "more than 99 bytes"),
        ):
            with pytest.raises(ParseError, match=words):
                parse(body, limits)


class TestTaken:
    def test_at_the_limits(self) -> None:
        assert parse(b"<a>" * 5 + b"</a>" * 5, Limits(depth=5)).tag == "a"
        assert len(parse(b"<a>" + b"<b/>" * 10 + b"</a>", Limits(elements=11))) == 10
        assert parse(b"<a>" + b" " * 93 + b"</a>", Limits(size=100)).tag == "a"

    def test_namespaces_one_after_the_other(self) -> None:
        """As writers do that declare a prefix where they use it."""
        assert len(parse(b"<a>" + b'<b xmlns:c="c" c:d=""/>' * 1000 + b"</a>", Limits(namespaces=1))) == 1000

    @pytest.mark.parametrize("encoding", ["utf-8", "GB18030", "gbk", "gb2312", "utf-16", "Big5"])
    def test_character_sets(self, encoding: str) -> None:
        text = f'<?xml version="1.0" encoding="{encoding}"?><a>中文</a>'
        assert parse(text.encode(encoding)).text == "中文"

    @pytest.mark.parametrize("declared", ["", '<?xml version="1.0" encoding="utf-8"?>', '<?xml version="1.0" encoding="gbk"?>'])
    def test_a_byte_order_mark_knows_best(self, declared: str) -> None:
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            assert parse(f"\ufeff{declared}<a>中文</a>".encode(encoding)).text == "中文"

    def test_the_transport_knows_better(self) -> None:
        assert parse("<a>中文</a>".encode("gbk"), charset='"GBK"').text == "中文"

    def test_bytes_that_look_like_markup_in_gb18030(self) -> None:
        assert parse('<?xml version="1.0" encoding="GB18030"?><a b="倈俕">倊乗</a>'.encode("gb18030")).get("b") == "倈俕"

    def test_more_text_than_the_parser_takes_by_itself(self) -> None:
        assert len(parse(b"<a>" + b"x" * 11_000_000 + b"</a>").text) == 11_000_000
