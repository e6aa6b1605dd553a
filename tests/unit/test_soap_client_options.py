"""What `meridian check` says of a SOAP destination before any message comes."""

from pathlib import Path

import pytest

from adapters.soap.client.answer_paths import texts
from adapters.soap.client.options import DESTINATION
from adapters.soap.client.pinned import Wsdl
from channels import load
from engine.errors import ConfigError
from engine.formats.xml import parse
from engine.options import Faulty, Place
from tests.support.soap_service import NAMESPACE, write_wsdl

BODY = {"action": "a", "message": "${content.text}"}


def faults_of(folder: Path, **node):
    """Each fault as text, for a destination that would be right but for `node`."""
    write_wsdl(folder)
    faults = []
    DESTINATION.parse(
        {"wsdl": "exchange.wsdl", "operation": "Exchange", "body": BODY, **node}, Place("channels/c.yaml", 7, folder=folder), faults
    )
    assert all((fault.file, fault.line) == ("channels/c.yaml", 7) for fault in faults)
    return [str(fault) for fault in faults]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"wsdl": "gone.wsdl"}, ["no file 'gone.wsdl'"]),
        ({"wsdl": "../outside.wsdl"}, ["outside the site"]),
        ({"operation": "Exchagne"}, ["no operation 'Exchagne'", "did you mean 'Exchange'", "Announce"]),
        ({"port": "Soap13"}, ["no port 'Soap13'", "Soap12"]),
        ({"service": "Other"}, ["no service 'Other'", "ExchangeService"]),
        ({"port": "Soap11", "version": "1.2"}, ["no such port for SOAP 1.2"]),
        ({"operation": None}, ["operation must be said", "Announce, Exchange"]),
        ({"body": {"action": "a", "massage": "m"}}, ["massage"]),
        ({"body": {"action": "a"}}, ["Missing element message"]),
        ({"body": {"action": "${message.kind}", "message": "m"}}, ["no ${message.kind}"]),
        ({"body": {"action": "${message.contrl_id}", "message": "m"}}, ["did you mean 'message.control_id'"]),
        ({"body": {"action": "${tables.x}", "message": "m"}}, ["no ${tables.x}"]),
        ({"body": {"action": "a", "message": "see ${content.text}"}}, ["must stand alone"]),
        ({"body": {"action": "a", "message": "${content.attachment}"}}, ["needs mtom: true"]),
        ({"body": {"action": "${message.type", "message": "m"}}, ["not closed"]),
        ({"body": "gone.xml"}, ["no file 'gone.xml'"]),
        ({"body": "other.xml"}, ["the body element of no operation"]),
        ({"body": "dtd.xml"}, ["document type"]),
        ({"body": "some words"}, ["is no template"]),
        ({"headers": ["<a>"]}, ["not well-formed"]),
        ({"http_headers": {"Host": "x"}}, ["cannot say 'Host'"]),
        ({"http_headers": {"a b": "x"}}, ["cannot say 'a b'"]),
        ({"auth": {"bearer": "env:T"}, "url": "http://hospital.example/x"}, ["unencrypted"]),
        (
            {"security": {"sign": False, "username": {"name": "u", "password": "env:P", "type": "text"}}, "url": "http://h.example/x"},
            ["https"],
        ),
        ({"accepted_when": {"path": "a//b"}}, ["no path in a reply"]),
        ({"tables": {"x": {"of": "${content.text}", "table": {}}}}, ["whole content"]),
        ({"url": "ftp://x"}, ["not an http"]),
        ({"body": {"action": "${documents.x}", "message": "m"}}, ["no ${documents.x}"]),
        ({"documents": {"x": "gone.xml"}}, ["no file 'gone.xml'"]),
        ({"documents": {"x": "words"}}, ["not the name of an XML file"]),
        ({"documents": {"x": "whole.xml"}}, ["${content.attachment} cannot be in one of documents"]),
        ({"documents": {"x": "table.xml"}}, ["no ${tables.gone}"]),
    ],
)
def test_faults(tmp_path, node, words):
    (tmp_path / "other.xml").write_text("<Exchange/>")
    (tmp_path / "dtd.xml").write_text("<!DOCTYPE x><x/>")
    (tmp_path / "whole.xml").write_text("<x>${content.attachment}</x>")
    (tmp_path / "table.xml").write_text("<x>${tables.gone}</x>")
    (said,) = faults_of(tmp_path, **node)
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    "node",
    [
        {},
        {"port": "Soap12", "version": "1.2", "url": "https://hospital.example/exchange/"},
        {"body": "as it came", "operation": None},
        {"body": "t.xml", "operation": None, "mtom": True},
        {"documents": {"x": "d.xml"}, "body": {"action": "a", "message": "${documents.x}"}},
        {"port": "Rpc", "operation": None, "body": {"action": "a", "message": "m"}},
        {"tables": {"x": {"of": "${message.type}", "table": {"A": "b"}}}, "body": {"action": "${tables.x}", "message": "m", "count": 1}},
    ],
)
def test_what_is_right(tmp_path, node):
    (tmp_path / "t.xml").write_text(f'<Exchange xmlns="{NAMESPACE}"><message>${{content.attachment}}</message></Exchange>')
    (tmp_path / "d.xml").write_text("<x id='${message.id}'>${content.base64}</x>")
    assert faults_of(tmp_path, **node) == []


def test_the_address_keeps_its_last_slash(tmp_path):
    """To a SOAP server it may be another address."""
    write_wsdl(tmp_path)
    node = {"wsdl": "exchange.wsdl", "url": "http://h/x/", "operation": "Exchange", "body": BODY}
    assert DESTINATION.parse(node, Place("c", folder=tmp_path), []).url == "http://h/x/"


# --- a site ----------------------------------------------------------------------------------------------

CHANNEL = """\
name: admissions
source:
  mllp: {listen: 2575}
destinations:
  - name: hospital
    soap:
      wsdl: wsdl/exchange.wsdl
      operation: Exchange
      url: https://hospital.example/services/HIPMessageServer
      tls: {peer: hospital}
      body:
        action: ${tables.action}
        message: ${content.text}
      tables:
        action:
          of: ${message.type}
          table: {ADT^A01: PatientInfoRegister, ADT^A08: PatientInfoUpdate}
      accepted_when:
        path: MCCI_IN000002UV01/acknowledgement/@typeCode
        accepted: [AA]
        reason: acknowledgementDetail/text/@value
"""


def test_a_fault_in_a_site_has_file_and_line(tmp_path):
    """The example as it is, with an operation that is not there, and with a schema that is missing."""
    write_wsdl(tmp_path / "wsdl")
    (tmp_path / "channels").mkdir()
    (tmp_path / "meridian.yaml").write_text("name: site\nparty: site\n")
    (tmp_path / "channels" / "a.yaml").write_text(CHANNEL)
    assert [channel.name for channel in load(tmp_path).channels] == ["admissions"]
    (tmp_path / "channels" / "a.yaml").write_text(CHANNEL.replace("operation: Exchange", "operation: Exchang"))
    with pytest.raises(ConfigError) as told:
        load(tmp_path)
    (fault,) = told.value.faults
    assert (fault.file, fault.line) == ("channels/a.yaml", 6)
    assert "did you mean 'Exchange'" in fault.text
    (tmp_path / "channels" / "a.yaml").write_text(CHANNEL)
    (tmp_path / "wsdl" / "exchange.xsd").unlink()
    with pytest.raises(ConfigError) as told:
        load(tmp_path)
    (fault,) = told.value.faults
    assert (fault.file, fault.line) == ("channels/a.yaml", 7)
    assert "wsdl/exchange.wsdl:3 imports" in fault.text


# --- the WSDL --------------------------------------------------------------------------------------------


def test_an_import_that_is_missing_is_named_with_file_and_line(tmp_path):
    """Nothing is fetched in its place."""
    write_wsdl(tmp_path)
    (tmp_path / "exchange.xsd").unlink()
    with pytest.raises(
        Faulty, match=r"exchange\.wsdl:3 imports 'http://elsewhere.invalid/exchange.xsd', and there is no file exchange.xsd"
    ):
        Wsdl("exchange.wsdl", tmp_path).describe()


def test_an_import_leaves_the_site_under_no_name(tmp_path):
    write_wsdl(tmp_path / "site")
    (tmp_path / "secret.xsd").write_text('<schema xmlns="http://www.w3.org/2001/XMLSchema"/>')
    wsdl = tmp_path / "site" / "exchange.wsdl"
    for location in ("../secret.xsd", str(tmp_path / "secret.xsd"), f"file://{tmp_path}/secret.xsd"):
        wsdl.write_text(wsdl.read_text().replace("http://elsewhere.invalid/exchange.xsd", location))
        with pytest.raises(Faulty, match=r"outside the site|no file"):
            Wsdl("exchange.wsdl", tmp_path / "site").describe()
        wsdl.write_text(wsdl.read_text().replace(location, "http://elsewhere.invalid/exchange.xsd"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no XML"),
        ("<a>", r"exchange.wsdl: not well-formed"),
        ('<!DOCTYPE a SYSTEM "http://x/y.dtd"><a/>', "document type"),
        ("<a/>", "no service"),
        ('<definitions xmlns="http://schemas.xmlsoap.org/wsdl/"/>', "no service"),
    ],
)
def test_what_is_no_wsdl(tmp_path, content, words):
    write_wsdl(tmp_path)
    (tmp_path / "exchange.wsdl").write_text(content)
    with pytest.raises(Faulty, match=words):
        Wsdl("exchange.wsdl", tmp_path).describe()


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(tmp_path):
    write_wsdl(tmp_path)
    wsdl = Wsdl("exchange.wsdl", tmp_path)
    first = wsdl.describe()
    assert wsdl.describe() is first
    write_wsdl(tmp_path, message="xs:base64Binary")
    assert wsdl.describe() is not first


def test_a_schema_may_use_the_attributes_of_xml_without_saying_where_they_are(tmp_path):
    """No request for them leaves the node."""
    write_wsdl(tmp_path)
    schema = tmp_path / "exchange.xsd"
    added = '<xs:import namespace="http://www.w3.org/XML/1998/namespace"/><xs:complexType name="T"><xs:attribute ref="xml:lang"/></xs:complexType>'
    schema.write_text(schema.read_text().replace("<xs:element", f"{added}<xs:element", 1))
    assert {port.name for port in Wsdl("exchange.wsdl", tmp_path).describe().ports} == {"Soap11", "Soap12", "Rpc"}


# --- paths in replies ------------------------------------------------------------------------------------

REPLY = parse(
    b"<B><r xmlns='u'><payload>&lt;M xmlns='v'>&lt;ack typeCode='AE'>&lt;d>no&lt;/d>&lt;/ack>&lt;/M></payload>"
    b"<status><code> 1 </code><code>2</code></status><bad>&lt;!DOCTYPE x>&lt;x/></bad></r></B>"
)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("M/ack/@typeCode", ["AE"]),
        ("payload/M/ack/d", ["no"]),
        ("ack/d", ["no"]),
        ("status/code", ["1", "2"]),
        ("r/code", []),
        ("x", []),
        ("status/@none", []),
    ],
)
def test_paths_in_a_reply(path, found):
    assert texts(REPLY, path) == found
