"""The Document Consumer against a registry and a repository: what is new is handed in once, whatever happens in between."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
from lxml import etree
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from adapters.soap.xdr import adapter, xds_adapter
from adapters.soap.xdr.consumer import DocumentConsumer
from engine.bench.loopback import free_port
from engine.errors import ConfigError, PermanentDelivery, TransientDelivery
from engine.formats import soap
from engine.formats.xds.checking import check
from engine.formats.xds.names import APPROVED
from engine.formats.xds.reading import read_submission
from engine.message import ACCEPTED, SOAP, Ack, Envelope, Excerpt, Parcel
from tests.support.dicomweb import FolderSpool
from tests.support.fhir import context
from tests.support.sites import Site
from tests.support.waiting import until
from tests.support.xdr import PATIENT, SCHEMAS, SOURCE_ID, Doc, objects, submission_set
from tests.support.xds_peer import NS, XdsPeer

MEGABYTES = int(os.environ.get("MERIDIAN_XDR_MB", "200"))
ROOM = 64 << 20
NOW = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp() * 1e6)
OTHER = "P-5000^^^&1.2.156.10011.1&ISO"


class Kept:
    """engine.contracts.Intake: keeps, or has no room; `handed(n)` fires when n have come."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.invalid: list[Any] = []
        self.full = False
        self._awaited: list[tuple[int, Deferred[None]]] = []

    def __call__(self, envelope: Envelope, reply: Any, invalid: Any = None) -> Deferred[Ack]:
        self.envelopes.append(envelope)
        self.invalid.append(invalid)
        message_id = 0 if self.full else len(self.envelopes)
        for number, awaited in list(self._awaited):
            if len(self.envelopes) >= number:
                self._awaited.remove((number, awaited))
                awaited.callback(None)
        return succeed(Ack(invalid or ACCEPTED, reply(ACCEPTED), message_id))

    def handed(self, number: int) -> Deferred[None]:
        awaited: Deferred[None] = Deferred()
        if len(self.envelopes) >= number:
            awaited.callback(None)
        else:
            self._awaited.append((number, awaited))
        return awaited


class WithPeer:
    """A registry with its repository, and a folder for a source."""

    timeout = 60

    def setUp(self) -> None:
        self.peer = XdsPeer()
        self.folder = Path(self.mktemp())
        (self.folder / "spool").mkdir(parents=True)
        self.intake = Kept()
        self.running: list[DocumentConsumer] = []

    @inlineCallbacks
    def tearDown(self):  # type: ignore[no-untyped-def]
        for source in self.running:
            yield source.stop()
        assert self.peer.rejected == []
        assert list(self.folder.glob("*.retrieved")) == []
        yield self.peer.stop()

    def publish(self, number: int, *docs: Doc, time: str = "20261120110000", patient: str = PATIENT) -> None:
        """A submission that the registry has, with its documents in the repository."""
        the_set = submission_set(f"1.2.156.10011.9.{number}", patient, time)
        self.peer.register(etree.fromstring(objects(list(docs), the_set)))
        self.peer.documents.update({doc.unique_id: (doc.mime, doc.content) for doc in docs})

    def source(self, **options: Any) -> DocumentConsumer:
        address = f"http://127.0.0.1:{self.peer.port}"
        said = {"url": f"{address}/registry", "repositories": {self.peer.repository: f"{address}/repository"}, "poll": "10ms", **options}
        if "patients_file" not in said:
            said.setdefault("patients", [PATIENT])
        given = context(self.folder, reactor, clock=lambda: NOW)
        given = replace(given, spool=lambda: FolderSpool(self.folder / "spool"))
        assert xds_adapter.source_options is not None
        return xds_adapter.source(xds_adapter.source_options.defaults(**said), given)  # type: ignore[return-value]

    def start(self, **options: Any) -> Deferred[None]:
        self.running.append(self.source(**options))
        return self.running[-1].start(self.intake)

    @inlineCallbacks
    def stop(self):  # type: ignore[no-untyped-def]
        yield self.running.pop().stop()

    def rounds(self, number: int, action: str = "RegistryStoredQuery") -> Deferred[None]:
        """Fires when so many more requests of that kind were made."""
        done: Deferred[None] = Deferred()
        wanted = self.asked(action) + number

        def look(_: Any = None) -> None:
            if self.asked(action) >= wanted:
                done.callback(None)
            else:
                self.peer.received().addCallback(lambda _: reactor.callLater(0, look))  # type: ignore[attr-defined]

        look()
        return done

    def asked(self, action: str) -> int:
        return sum(one[0].endswith(action) for one in self.peer.requests)

    def read(self, number: int) -> tuple[Any, soap.SoapMessage]:
        body = self.intake.envelopes[number].body
        if not isinstance(body, bytes):
            file = self.folder / "spool" / body.digest
            body = Excerpt(file.read_bytes()[:64], body.digest, file)
        message = soap.read(body)
        return read_submission(message.payload), message


class ConsumerTests(WithPeer, TestCase):
    @inlineCallbacks
    def test_what_is_new_is_handed_in_once(self):  # type: ignore[no-untyped-def]
        """With its metadata and documents, as a submission that a recipient would take; a later one when it comes."""
        self.publish(1, Doc(), Doc(b"\x00\r\n--uuid:5f3a-pee" * 40_000, "Document02", "1.2.3.9^X", "application/pdf"))
        yield self.start()
        yield self.intake.handed(1)
        envelope = self.intake.envelopes[0]
        assert (envelope.content_type, envelope.message_type, envelope.control_id) == (SOAP, "ITI-43", "1.2.156.10011.9.1")
        assert (envelope.sender, envelope.patient_ids, envelope.received_at) == (SOURCE_ID, (PATIENT,), NOW)
        submission, message = self.read(0)
        assert check(submission, message.content_of) == []
        contents = {one.unique_id: bytes(message.content_of(submission.contents[one.id]).content) for one in submission.entries}
        assert {name: (kind, contents[name]) for name, (kind, _) in self.peer.documents.items()} == self.peer.documents
        yield self.rounds(2)
        self.publish(2, Doc(unique_id="1.2.3.7"), time="20261120230000")
        yield self.intake.handed(2)
        assert self.intake.envelopes[1].control_id == "1.2.156.10011.9.2"
        yield self.rounds(3)
        assert len(self.intake.envelopes) == 2

    @inlineCallbacks
    def test_nothing_comes_twice_after_a_restart(self):  # type: ignore[no-untyped-def]
        """What was seen is on disk; a set that came late, behind the newest, is found within the overlap."""
        self.publish(1, Doc())
        yield self.start()
        yield self.intake.handed(1)
        yield self.rounds(2)
        yield self.stop()
        self.publish(2, Doc(unique_id="1.2.3.7"), time="20261120093000")
        self.publish(3, Doc(unique_id="1.2.3.8"), time="20261101093000")
        yield self.start(overlap="2h")
        yield self.intake.handed(2)
        yield self.rounds(2)
        assert [one.control_id for one in self.intake.envelopes] == ["1.2.156.10011.9.1", "1.2.156.10011.9.2"]

    @inlineCallbacks
    def test_what_is_not_kept_comes_again(self):  # type: ignore[no-untyped-def]
        """Under the same key, so that the engine would know it."""
        self.publish(1, Doc())
        self.intake.full = True
        yield self.start()
        yield self.intake.handed(2)
        self.intake.full = False
        yield self.intake.handed(3)
        yield self.rounds(4)
        assert len(self.intake.envelopes) == 3
        assert len({(one.idempotency_key, one.content_digest) for one in self.intake.envelopes}) == 1

    @inlineCallbacks
    def test_trouble_is_for_the_next_round(self):  # type: ignore[no-untyped-def]
        """A registry that is busy, a fault, a server that is out of service, a connection lost: nothing is lost for it."""
        self.publish(1, Doc())
        troubles: list[Callable[[], Any]] = [
            lambda: setattr(self.peer, "errors", ["XDSRegistryBusy"]),
            lambda: setattr(self.peer, "errors", []) or setattr(self.peer, "fault", "Receiver"),
            lambda: setattr(self.peer, "fault", "") or setattr(self.peer, "status", 503),
            lambda: setattr(self.peer, "status", 0) or setattr(self.peer, "mode", "hang up"),
        ]
        troubles[0]()
        with self.assertLogs("test.fhir", logging.ERROR) as logged:
            yield self.start()
            for trouble in troubles[1:]:
                yield self.peer.received()
                trouble()
            yield self.peer.received()
            yield self.peer.received()
        self.peer.mode = "take"
        yield self.intake.handed(1)
        assert not any("P-4711" in str(vars(one)) for one in logged.records)

    @inlineCallbacks
    def test_a_document_that_is_nowhere_is_left_out(self):  # type: ignore[no-untyped-def]
        """The others go on, with the metadata of it, and the log says so."""
        self.publish(1, Doc(), Doc(id="Document02", unique_id="1.2.3.9"))
        self.peer.lost.add("1.2.3.9")
        with self.assertLogs("test.fhir", logging.WARNING) as logged:
            yield self.start()
            yield self.intake.handed(1)
        submission, _ = self.read(0)
        assert (len(submission.entries), len(submission.contents)) == (2, 1)
        assert self.intake.envelopes[0].facts == {"xds.documents": "1", "xds.missing": "1"}
        assert any("1 of 2 documents" in one.getMessage() for one in logged.records)

    @inlineCallbacks
    def test_a_document_that_cannot_be_had_now_is_waited_for(self):  # type: ignore[no-untyped-def]
        """A repository that gives a part and is busy with the rest (PartialSuccess)."""
        self.publish(1, Doc(), Doc(id="Document02", unique_id="1.2.3.9"))
        self.peer.lost.add("1.2.3.9")
        self.peer.excuse = "XDSRepositoryBusy"
        yield self.start()
        for _ in range(7):  # two rounds of three requests, and the next one
            yield self.peer.received()
        assert self.intake.envelopes == []
        self.peer.lost.clear()
        yield self.intake.handed(1)
        assert self.intake.envelopes[0].facts == {"xds.documents": "2", "xds.missing": "0"}

    @inlineCallbacks
    def test_a_document_that_can_never_be_had_is_not_waited_for_without_end(self):  # type: ignore[no-untyped-def]
        self.publish(1, Doc(), Doc(id="Document02", unique_id="1.2.3.9"))
        self.peer.lost.add("1.2.3.9")
        self.peer.excuse = "XDSRepositoryError"
        yield self.start()
        yield self.intake.handed(1)
        assert self.asked("RetrieveDocumentSet") == 10
        assert self.intake.envelopes[0].facts == {"xds.documents": "1", "xds.missing": "1"}

    @inlineCallbacks
    def test_a_sender_whose_clock_is_ahead_hides_nobody(self):  # type: ignore[no-untyped-def]
        self.publish(1, Doc(), time="20990101000000")
        yield self.start()
        yield self.intake.handed(1)
        yield self.rounds(2)
        self.publish(2, Doc(id="Document02", unique_id="1.2.3.9"), time="20261120230000")
        yield self.intake.handed(2)

    @inlineCallbacks
    def test_what_is_too_much_for_one_answer_comes_in_parts(self):  # type: ignore[no-untyped-def]
        self.peer.most = 1
        for number in (1, 2, 3):
            self.publish(number, Doc(unique_id=f"1.2.3.{number}"), time=f"2026112010000{number}")
        yield self.start()
        yield self.intake.handed(3)
        assert [one.control_id[-1] for one in self.intake.envelopes] == ["1", "2", "3"]

    @inlineCallbacks
    def test_a_registry_that_knows_only_a_part_passes_over_nothing(self):  # type: ignore[no-untyped-def]
        """PartialSuccess: another community does not answer. What it has may be older than what came meanwhile."""
        self.publish(1, Doc(), time="20261120230000")
        self.peer.status_of_answers = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"
        yield self.start()
        for _ in range(4):
            yield self.peer.received()
        assert self.intake.envelopes == []  # its documents may be among what is not known
        self.publish(2, Doc(id="Document02", unique_id="1.2.3.9"), time="20261101000000")
        self.peer.status_of_answers = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
        yield self.intake.handed(2)

    @inlineCallbacks
    def test_a_document_that_was_altered_is_quarantined(self):  # type: ignore[no-untyped-def]
        self.publish(1, Doc())
        self.peer.documents[Doc().unique_id] = ("text/plain", b"Something else.")
        yield self.start()
        yield self.intake.handed(1)
        assert "hash" in self.intake.invalid[0].reason

    @inlineCallbacks
    def test_only_what_is_wanted(self):  # type: ignore[no-untyped-def]
        """By type; a set without anything wanted is not handed in. And metadata alone, where that is said."""
        letter = {"urn:uuid:f0306f51-975f-434e-a61c-c59651d33983": ("57133-1", "2.16.840.1.113883.6.1", "Referral note")}
        self.publish(1, Doc(), Doc(id="Document02", unique_id="1.2.3.9", coded=letter))
        self.publish(2, Doc(unique_id="1.2.3.8"))
        yield self.start(types=["57133-1^^2.16.840.1.113883.6.1"])
        yield self.rounds(6)
        assert len(self.intake.envelopes) == 1
        submission, message = self.read(0)
        assert [one.unique_id for one in submission.entries] == ["1.2.3.9"]
        assert check(submission, message.content_of) == []
        yield self.stop()
        yield self.start(file="other.db", documents=False)
        yield self.intake.handed(3)
        assert self.read(1)[0].contents == {}

    @inlineCallbacks
    def test_patients_come_from_a_file(self):  # type: ignore[no-untyped-def]
        """Which may be changed while it runs; a faulty line is named by its number."""
        self.publish(1, Doc())
        self.publish(2, Doc(unique_id="1.2.3.8", patient=OTHER), patient=OTHER)
        (self.folder / "patients.txt").write_text(f"# ours\n{PATIENT}\nnonsense\n")
        with self.assertLogs("test.fhir", logging.ERROR) as logged:
            yield self.start(patients_file="patients.txt")
            yield self.intake.handed(1)
        assert any("patient 2 of patients.txt" in one.getMessage() for one in logged.records)
        (self.folder / "patients.txt").write_text(f"{PATIENT}\n{OTHER}\n")
        yield self.intake.handed(2)
        assert self.intake.envelopes[1].patient_ids == (OTHER,)

    @inlineCallbacks
    def test_a_repository_without_an_address(self):  # type: ignore[no-untyped-def]
        """Is named in the log, and the set stays for when there is one."""
        self.publish(1, Doc())
        with self.assertLogs("test.fhir", logging.ERROR) as logged:
            yield self.start(repositories={"1.2.3": f"http://127.0.0.1:{free_port()}/"})
            yield self.rounds(4)
        assert self.intake.envelopes == []
        assert any(self.peer.repository in str(vars(one)) for one in logged.records)
        yield self.stop()
        yield self.start()
        yield self.intake.handed(1)

    def test_options_that_contradict(self) -> None:
        for options in (
            {"patients": [], "patients_file": None},
            {"patients_file": "a", "patients": [PATIENT]},
            {"repositories": {"x": "http://a"}},
        ):
            with self.assertRaises(ValueError):
                self.source(**options)

    @inlineCallbacks
    def test_a_book_that_cannot_be_opened(self):  # type: ignore[no-untyped-def]
        (self.folder / "xds-seen.db").mkdir()
        source = self.source()
        yield self.assertFailure(source.start(self.intake), ConfigError)
        yield source.stop()

    @inlineCallbacks
    def test_what_is_found_can_be_provided_elsewhere(self):  # type: ignore[no-untyped-def]
        """By the destination `xdr`, as it is: a bridge from XDS to XDR."""
        self.publish(1, Doc())
        yield self.start()
        yield self.intake.handed(1)
        yield self.stop()
        other = XdsPeer()
        assert adapter.destination_options is not None
        settings = adapter.destination_options.defaults(url=f"http://127.0.0.1:{other.port}/xdr")
        destination = adapter.destination(settings, context(self.folder, reactor))
        yield destination.open()
        envelope = self.intake.envelopes[0]
        assert isinstance(envelope.body, bytes)
        yield destination.deliver(Parcel(1, 1, envelope.body, SOAP, "ITI-43", "1", "k"))
        assert other.documents == {Doc().unique_id: ("text/plain", Doc().content)}
        assert other.rejected == []
        assert hashlib.sha1(other.documents[Doc().unique_id][1], usedforsecurity=False).hexdigest()
        assert other.requests[0][1].find("x:Document", NS).get("id").startswith("urn:uuid:")
        yield destination.close()
        yield other.stop()


class BigDocumentTests(WithPeer, TestCase):
    """A node that retrieves a document far larger than what it may hold in memory."""

    @inlineCallbacks
    def test_memory_does_not_depend_on_the_size_of_documents(self):  # type: ignore[no-untyped-def]
        content = os.urandom(1 << 20) * MEGABYTES
        self.publish(1, Doc(content, mime="application/dicom"))
        address = f"http://127.0.0.1:{self.peer.port}"
        source = {"url": address, "repositories": {self.peer.repository: address}, "patients": [PATIENT], "poll": "100ms", "since": "3650d"}
        site = Site(self.folder / "site", source={"xds": source})
        before, most = yield deferToThread(self.watched, site)
        (file,) = [file for file in (site.folder / "data" / "bodies").glob("??/*") if file.stat().st_size > len(content)]
        message = soap.read(Excerpt(b"", "", file))
        (part,) = message.parts.values()
        assert part.sha1() == hashlib.sha1(content, usedforsecurity=False).digest()
        assert most - before < ROOM, f"{(most - before) >> 20} MB"

    def watched(self, site: Site) -> tuple[int, int]:
        """Resident bytes of the node when it is ready, and the most until the document is kept."""
        with site.running() as node:
            before = most = node.resident_bytes

            def kept() -> bool:
                nonlocal most
                most = max(most, node.resident_bytes)
                return bool(site.kept())

            until(kept)
            return before, max(most, node.resident_bytes)


class AskingTests(WithPeer, TestCase):
    """Stored queries that the source does not need itself."""

    @inlineCallbacks
    def test_documents_are_found_and_got(self):  # type: ignore[no-untyped-def]
        """By patient, and by uniqueId; what a registry refuses is Permanent, or Transient where it has no time."""
        self.publish(1, Doc(), Doc(id="Document02", unique_id="1.2.3.9"))
        asking = self.source(home="urn:oid:1.2.3")._asking
        asking.open()
        by_patient = {"$XDSDocumentEntryPatientId": PATIENT, "$XDSDocumentEntryStatus": [APPROVED]}
        found = yield asking.query("FindDocuments", by_patient)
        assert [one.unique_id for one in found.submission.entries] == [Doc().unique_id, "1.2.3.9"]
        found = yield asking.query("GetDocuments", {"$XDSDocumentEntryUniqueId": ["1.2.3.9", "1.2.3.10"]})
        assert [one.unique_id for one in found.submission.entries] == ["1.2.3.9"]
        assert self.peer.requests[-1][1].find("rim:AdhocQuery", NS).get("home") == "urn:oid:1.2.3"
        for code, kind in (("XDSUnknownPatientId", PermanentDelivery), ("XDSRegistryBusy", TransientDelivery)):
            self.peer.errors = [code]
            yield self.assertFailure(asking.query("FindDocuments", by_patient), kind)
        yield asking.close()


class PeerTests(WithPeer, TestCase):
    """The registry and repository of these tests, as zeep sees them with the WSDLs of IHE: what the consumer is tried on is by the book."""

    def client(self, name: str) -> Any:
        zeep = pytest.importorskip("zeep")
        return zeep.Client(str(SCHEMAS / f"{name}.wsdl"), settings=zeep.Settings(strict=False))

    @inlineCallbacks
    def test_zeep_asks_and_retrieves(self):  # type: ignore[no-untyped-def]
        if not SCHEMAS.exists():
            raise SkipTest("the WSDLs of IHE are not here")
        self.publish(1, Doc())
        status, returned = yield deferToThread(self.find)
        assert (status.endswith(":Success"), returned) == (True, 1)
        document = yield deferToThread(self.retrieve)
        assert document == (self.peer.repository, Doc().unique_id, "text/plain", Doc().content)

    def find(self) -> tuple[str, int]:
        """ITI-18: the status, and how many document entries there are in the answer."""
        client = self.client("iti18")
        binding = "{urn:ihe:iti:xds-b:2007}DocumentRegistry_Binding_Soap12"
        client.wsdl.bindings[binding].get("DocumentRegistry_RegistryStoredQuery").soapaction = "urn:ihe:iti:2007:RegistryStoredQuery"
        service = client.create_service(binding, f"http://127.0.0.1:{self.peer.port}/registry")
        listed = [
            {"name": "$XDSDocumentEntryPatientId", "ValueList": {"_value_1": [{"Value": f"'{PATIENT}'"}]}},
            {"name": "$XDSDocumentEntryStatus", "ValueList": {"_value_1": [{"Value": f"('{APPROVED}')"}]}},
        ]
        said = service.DocumentRegistry_RegistryStoredQuery(
            ResponseOption={"returnType": "LeafClass", "returnComposedObjects": True},
            AdhocQuery={"id": "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d", "Slot": listed},
        )
        return said.status, len(said.RegistryObjectList._raw_elements)

    def retrieve(self) -> tuple[str, str, str, bytes]:
        """ITI-43, over MTOM."""
        client = self.client("iti43")
        binding = "{urn:ihe:iti:xds-b:2007}DocumentRepository_Binding_Soap12"
        client.wsdl.bindings[binding].get("DocumentRepository_RetrieveDocumentSet").soapaction = "urn:ihe:iti:2007:RetrieveDocumentSet"
        service = client.create_service(binding, f"http://127.0.0.1:{self.peer.port}/repository")
        wanted = {"RepositoryUniqueId": self.peer.repository, "DocumentUniqueId": Doc().unique_id}
        said = service.DocumentRepository_RetrieveDocumentSet(DocumentRequest=[wanted])
        (one,) = said.DocumentResponse
        return one.RepositoryUniqueId, one.DocumentUniqueId, one.mimeType, one.Document
