"""PDUs and command sets against pynetdicom's and pydicom's reading of the same standard, and against peers that lie."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pydicom.filewriter import write_dataset
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, A_RELEASE_RP, A_RELEASE_RQ

from adapters.dicom.upper import dimse, pdu
from adapters.dicom.upper.dimse import Field
from adapters.dicom.upper.negotiation import EXPLICIT_LE, IMPLICIT_LE, Offer, Taken, agreed_by, negotiate
from adapters.dicom.upper.pdu import Abort, AssociateReject, ProposedContext, Result, Roles, UserIdentity
from adapters.dicom.upper.requestor import Proposal
from engine.errors import FramingError, LocalProtocolError
from tests.support.dicom import CT, VERIFICATION

REQUEST = Proposal(
    "MODALITY",
    "MERIDIAN",
    [(CT, [EXPLICIT_LE, IMPLICIT_LE]), (VERIFICATION, [IMPLICIT_LE])],
    roles={CT: Roles(scu=True, scp=True)},
    window=4,
    identity=UserIdentity(2, True, b"who", b"secret"),
    extended={CT: b"\1\2\3"},
).request()


def content(raw: bytes) -> bytes:
    return raw[6:]


def test_a_request_as_pynetdicom_reads_it() -> None:
    """Every field, item and sub-item."""
    theirs = A_ASSOCIATE_RQ()
    theirs.decode(pdu.encode(REQUEST))
    assert (theirs.called_ae_title, theirs.calling_ae_title) == ("MERIDIAN", "MODALITY")
    assert [(c.context_id, c.abstract_syntax, c.transfer_syntax) for c in theirs.presentation_context] == [
        (1, CT, [EXPLICIT_LE, IMPLICIT_LE]),
        (3, VERIFICATION, [IMPLICIT_LE]),
    ]
    user = theirs.user_information
    assert user is not None
    assert user.maximum_length == 131072
    assert user.async_ops_window.max_operations_invoked == 4
    assert user.role_selection[CT].scp_role == 1
    assert user.user_identity.primary_field == b"who"
    assert user.ext_neg[0].app_info == b"\1\2\3"
    assert user.implementation_version_name == "MERIDIAN_1"
    assert theirs.encode() == pdu.encode(REQUEST)


def test_what_was_written_is_read_back() -> None:
    """Decode after encode, for each kind."""
    accept, _ = negotiate(REQUEST, Offer(lambda uid: Taken(scp=True), window=8))
    for one in (REQUEST, accept, AssociateReject(1, 1, 3), Abort(2, 6), pdu.ReleaseRequest(), pdu.ReleaseResponse()):
        raw = pdu.encode(one)
        assert pdu.decode(raw[0], content(raw)) == one


def test_an_acceptance_as_pynetdicom_reads_it() -> None:
    accept, _ = negotiate(REQUEST, Offer(lambda uid: Taken() if uid == CT else None, window=8))
    theirs = A_ASSOCIATE_AC()
    theirs.decode(pdu.encode(accept))
    assert [(c.context_id, c.result) for c in theirs.presentation_context] == [(1, 0), (3, 3)]
    assert theirs.presentation_context[0].transfer_syntax == EXPLICIT_LE
    assert theirs.user_information.async_ops_window.max_operations_invoked == 4


@pytest.mark.parametrize("kind", [A_ASSOCIATE_RJ, A_ABORT_RQ, A_RELEASE_RQ, A_RELEASE_RP])
def test_the_short_ones_as_pynetdicom_reads_them(kind: type) -> None:
    ours = {
        A_ASSOCIATE_RJ: AssociateReject(2, 3, 2),
        A_ABORT_RQ: Abort(2, 1),
        A_RELEASE_RQ: pdu.ReleaseRequest(),
        A_RELEASE_RP: pdu.ReleaseResponse(),
    }[kind]
    theirs = kind()
    theirs.decode(pdu.encode(ours))
    if kind is A_ASSOCIATE_RJ:
        assert (theirs.result, theirs.source, theirs.reason_diagnostic) == (2, 3, 2)
    if kind is A_ABORT_RQ:
        assert (theirs.source, theirs.reason_diagnostic) == (2, 1)


def test_unknown_items_are_passed_over() -> None:
    """PS3.8 clause 9.3.1."""
    raw = pdu.encode(REQUEST) + b"\x99\0\0\2xy"
    assert pdu.decode(pdu.ASSOCIATE_RQ, content(raw)) == REQUEST


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(67),
        bytes(68),  # no context
        pdu.encode(REQUEST)[6:-3],
        pdu.encode(REQUEST)[6:] + b"\x20\0\xff\xff",
        pdu.encode(replace(REQUEST, contexts=(ProposedContext(2, CT, (EXPLICIT_LE,)),)))[6:],
        pdu.encode(replace(REQUEST, contexts=(ProposedContext(1, CT, (EXPLICIT_LE,)),) * 2))[6:],
        pdu.encode(replace(REQUEST, contexts=(ProposedContext(1, "no uid", (EXPLICIT_LE,)),)))[6:],
        pdu.encode(replace(REQUEST, contexts=(ProposedContext(1, CT, ()),)))[6:],
    ],
)
def test_a_request_that_is_none(raw: bytes) -> None:
    """Cut off, overlong, even or doubled context IDs, identifiers that are none."""
    with pytest.raises(FramingError):
        pdu.decode(pdu.ASSOCIATE_RQ, raw)


def test_what_cannot_be_sent() -> None:
    """Our own faults."""
    with pytest.raises(LocalProtocolError):
        pdu.encode(replace(REQUEST, called="seventeen letters"))
    with pytest.raises(LocalProtocolError):
        Proposal("A", "B", []).request()
    with pytest.raises(LocalProtocolError):
        Proposal("A", "B", [(CT, [EXPLICIT_LE])] * 129).request()


class TestNegotiation:
    def test_the_requestor_s_first_transfer_syntax_that_we_take(self) -> None:
        """What it has is not re-encoded for our sake."""
        _, agreed = negotiate(REQUEST, Offer(lambda uid: Taken((IMPLICIT_LE,))))
        assert {one.transfer_syntax for one in agreed.values()} == {IMPLICIT_LE}
        _, agreed = negotiate(REQUEST, Offer(lambda uid: Taken()))
        assert agreed[1].transfer_syntax == EXPLICIT_LE

    def test_each_refusal_has_its_reason(self) -> None:
        """Table 9-18: abstract syntax, transfer syntaxes."""
        accept, agreed = negotiate(REQUEST, Offer(lambda uid: Taken(("1.2.3",)) if uid == CT else None))
        assert [one.result for one in accept.results] == [Result.TRANSFER_SYNTAXES, Result.ABSTRACT_SYNTAX]
        assert not agreed

    def test_roles_are_given_where_they_are_taken(self) -> None:
        """PS3.7 annex D.3.3.4: an SCP role only where we can be SCU."""
        for scp in (True, False):
            accept, agreed = negotiate(REQUEST, Offer(lambda uid, scp=scp: Taken(scp=scp)))
            assert accept.roles[CT].scp is scp
            assert agreed[1].roles.scp is scp
            assert agreed_by(REQUEST, accept)[1].roles.scp is scp

    def test_other_protocols_are_rejected(self) -> None:
        for field, reject in (({"application_context": "1.2"}, (1, 1, 2)), ({"protocol_version": 2}, (1, 2, 2))):
            assert negotiate(replace(REQUEST, **field), Offer(lambda uid: Taken())) == reject

    def test_operations_at_once_only_where_asked_for(self) -> None:
        """Annex D.3.3.3: not more than proposed; 0 is any number."""
        for asked, given in ((None, None), ((4, 1), (4, 1)), ((0, 1), (8, 1)), ((99, 9), (8, 1))):
            accept, _ = negotiate(replace(REQUEST, window=asked), Offer(lambda uid: Taken(), window=8))
            assert accept.window == given

    def test_what_was_not_proposed_cannot_be_accepted(self) -> None:
        """A peer that accepts other contexts, or another transfer syntax."""
        accept, _ = negotiate(REQUEST, Offer(lambda uid: Taken()))
        odd = replace(accept, results=(pdu.ContextResult(1, 0, "1.2.3"), pdu.ContextResult(77, 0, EXPLICIT_LE), accept.results[1]))
        assert set(agreed_by(REQUEST, odd)) == {3}


class TestCommandSets:
    def test_as_pydicom_reads_it(self) -> None:
        """Every element of table E.1-1 that has a value."""
        command = dimse.request(
            Field.C_STORE,
            CT,
            "1.2.3",
            MessageID=7,
            CommandDataSetType=1,
            MoveOriginatorMessageID=9,
            MoveOriginatorApplicationEntityTitle="PACS",
        )
        theirs = decode(BytesIO(dimse.encode(command)), True, True)
        assert {one.keyword: one.value for one in theirs if one.keyword != "CommandGroupLength"} == dict(command)

    def test_as_pydicom_writes_it(self) -> None:
        command = Dataset()
        command.CommandField, command.MessageIDBeingRespondedTo, command.CommandDataSetType = 0x8001, 3, 0x0101
        command.Status, command.OffendingElement, command.ErrorComment = 0xA900, [0x00080018, 0x00080016], "does not fit"
        read = dimse.decode(encode(command, True, True))
        assert (read.is_response, read.field, read.message_id, read.status) == (True, Field.C_STORE, 3, 0xA900)
        assert (read["OffendingElement"], read["ErrorComment"]) == ((0x00080018, 0x00080016), "does not fit")

    @pytest.mark.parametrize(
        "raw", [b"", b"\0", dimse.encode({"MessageID": 1}), dimse.encode({"CommandField": 1}), b"\x08\0\x05\0\0\0\0\0"]
    )
    def test_what_is_none(self, raw: bytes) -> None:
        with pytest.raises(FramingError):
            dimse.decode(raw)

    def test_an_answer_is_kept_whole(self) -> None:
        """What a channel stores, and what a destination may answer with."""
        raw = dimse.answer(0xA700, "no room", b"data set", AffectedSOPInstanceUID="1.2.3")
        assert dimse.read_answer(raw) == ({"Status": 0xA700, "ErrorComment": "no room", "AffectedSOPInstanceUID": "1.2.3"}, b"data set")
        with pytest.raises(LocalProtocolError):
            dimse.read_answer(b"MSH|")

    def test_responses_name_what_was_requested(self) -> None:
        """PS3.7 clause 10.3: requested in the request, affected in the response."""
        asked = dimse.request(Field.N_ACTION, "1.2.840.10008.1.20.1", "1.2.3", ActionTypeID=1, MessageID=5)
        answer = dimse.response(asked, 0)
        assert (answer["AffectedSOPInstanceUID"], answer["ActionTypeID"], answer.message_id) == ("1.2.3", 1, 5)


def test_data_sets_end_to_end_in_pydicom() -> None:
    """A file as instances.file_head begins it is one that pydicom reads."""
    from pydicom import dcmread
    from pydicom.filebase import DicomBytesIO

    from adapters.dicom.instances import file_head, read_file_facts
    from tests.support.dicom import data_set

    raw = file_head(CT, "1.2.3", EXPLICIT_LE, "MODALITY") + data_set()
    read = dcmread(BytesIO(raw))
    assert (read.file_meta.MediaStorageSOPInstanceUID, read.file_meta.SourceApplicationEntityTitle, read.PatientID) == (
        "1.2.3",
        "MODALITY",
        "4711",
    )
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, read)
    assert buffer.getvalue() == data_set()
    facts = read_file_facts(raw)
    assert (facts.patient_id, facts.study_uid, facts.source, raw[facts.meta_length :]) == ("4711", "1.2.3.4", "MODALITY", data_set())
