"""Messages of the hospital platform, built from our own words: valid by the standard's schemas where a test has those."""

from __future__ import annotations

import base64
from xml.sax.saxutils import escape, quoteattr

from engine.formats.hip import SERVICES
from tests.support.reference import reference

SCHEMAS = reference("nhc-wst846")
OID = "2.16.156.10011"
DOC_ID = "c0a8d4f2-1111-4e0b-9d55-2f7d8c1b9e10"
ID = "5b2e2d1c-7f1e-4a39-9c55-0d4a7c8f1e01"


def message(
    service: str, control_act: str, *, message_id: str = ID, sender: str = "HIS-0001", ack: str = "AL", root: str = "", extra: str = ""
) -> str:
    """A message of `service` around its control act."""
    name = root or SERVICES[service].root
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{name} xmlns="urn:hl7-org:v3" ITSVersion="XML_1.0">\n'
        f'<id root="{OID}.2.5.1.1" extension="{message_id}"/>\n<creationTime value="20260301101530"/>\n'
        f'<interactionId root="{OID}.2.5.1.2" extension="{name}"/>\n<processingCode code="P"/>\n<processingModeCode/>\n<acceptAckCode code="{ack}"/>\n'
        f'<receiver typeCode="RCV"><device classCode="DEV" determinerCode="INSTANCE"><id>{item("2.5.1.3", "PLATFORM")}</id></device></receiver>\n'
        f'<sender typeCode="SND"><device classCode="DEV" determinerCode="INSTANCE"><id>{item("2.5.1.3", sender)}</id></device></sender>\n'
        f'<controlActProcess classCode="ACTN" moodCode="EVN">{control_act}</controlActProcess>{extra}\n</{name}>'
    )


def item(oid: str, extension: str) -> str:
    return f'<item root="{OID}.{oid}" extension={quoteattr(extension)}/>'


def merge(survivor: str = "P-100", duplicate: str = "P-200", name: str = "李明", **more: str) -> str:
    """PatientInfoMerge."""
    person = (
        f'<patientPerson><id>{item("1.3", "320102198001011234")}</id><idCategory code="01" codeSystem="{OID}.2.3.1.1" codeSystemName="身份证件类别代码表">'
        f'<displayName value="居民身份证"/></idCategory><name><item><part value={quoteattr(name)}/></item></name></patientPerson>'
    )
    return message(
        "PatientInfoMerge",
        f'<subject typeCode="SUBJ"><registrationEvent classCode="REG" moodCode="EVN"><statusCode code="active"/>'
        f'<subject1 typeCode="SBJ"><patient classCode="PAT"><id>{item("2.5.1.4", survivor)}</id><statusCode code="active"/>'
        f'<effectiveTime><any value="20260301101500"/></effectiveTime>{person}</patient></subject1>'
        f'<custodian typeCode="CST"><assignedEntity classCode="ASSIGNED"><id>{item("1.4", "D001")}</id>'
        f'<assignedPerson classCode="PSN" determinerCode="INSTANCE"><name><item><part value="王医生"/></item></name></assignedPerson></assignedEntity></custodian>'
        f'<replacementOf typeCode="RPLC"><priorRegistration classCode="REG" moodCode="EVN"><statusCode code="obsolete"/>'
        f'<subject1 typeCode="SBJ"><priorRegisteredRole classCode="PAT"><id>{item("2.5.1.4", duplicate)}</id></priorRegisteredRole></subject1>'
        f"</priorRegistration></replacementOf></registrationEvent></subject>",
        **more,
    )


def terminology(service: str = "TerminologyRegister", **more: str) -> str:
    """TerminologyRegister or TerminologyUpdate: a value set of two codes."""
    items = "".join(
        f'<valueSetItems><code code="{code}"><displayName value="{name}"/></code><statusCode code="1"/></valueSetItems>'
        for code, name in (("01", "门诊"), ("02", "住院"))
    )
    return message(
        service,
        f'<subject typeCode="SUBJ"><registrationRequest classCode="REG" moodCode="RQO"><statusCode/>'
        f'<subject1 typeCode="SBJ"><valueSet><id extension="VS-1"/><desc value="就诊类别"/><statusCode code="active"/>'
        f'<version code="1"><displayName value="V1.0"/></version>{items}</valueSet></subject1>'
        f'<author typeCode="AUT"><assignedEntity classCode="ASSIGNED"><id>{item("1.4", "D001")}</id>'
        f'<assignedPerson classCode="PSN" determinerCode="INSTANCE"><name><item><part value="王医生"/></item></name></assignedPerson>'
        f"</assignedEntity></author></registrationRequest></subject>",
        **more,
    )


def retrieve(patient: str = "P-100", **more: str) -> str:
    """DocumentRetrieve: a query."""
    return message(
        "DocumentRetrieve",
        f'<queryByParameter><queryId extension="Q1"/><clinicalDocument.code><value code="C0007" codeSystem="{OID}.2.4" codeSystemName="文档类型">'
        f'<displayName value="检验报告"/></value></clinicalDocument.code><clinicalDocument.id><value root="{OID}.1.1" extension="{DOC_ID}"/></clinicalDocument.id>'
        f"<encompassingEncounter.id><value>{item('2.5.1.9', 'V-1')}</value></encompassingEncounter.id>"
        f'<patient.id><value>{item("2.5.1.4", patient)}</value><semanticsText value="患者ID"/></patient.id></queryByParameter>',
        **more,
    )


def document(
    doc_id: str = DOC_ID, code: str = "C0007", title: str = "检验报告", time: str = "20260301093000", inpatient: str = "ZY-77"
) -> bytes:
    """A clinical document, header only."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3"><typeId root="2.16.840.1.113883.1.3" extension="POCD_MT000040"/>'
        f'<id root="{OID}.1.1" extension="{doc_id}"/><code code="{code}" codeSystem="{OID}.2.4"/><title>{title}</title><effectiveTime value="{time}"/>'
        f'<recordTarget><patientRole><id root="{OID}.1.12" extension="{inpatient}"/><patient><id root="{OID}.1.3" extension="320102198001011234"/>'
        f"<name>李明</name></patient></patientRole></recordTarget><component><structuredBody/></component></ClinicalDocument>"
    ).encode()


def register(
    content: bytes | None = None,
    doc_id: str = DOC_ID,
    code: str = "C0007",
    name: str = "检验报告",
    time: str = "20260301093000",
    inpatient: str = "ZY-77",
    **more: str,
) -> str:
    """DocumentRegister of `content`."""
    encoded = base64.b64encode(document() if content is None else content).decode()
    return message(
        "DocumentRegister",
        f'<subject typeCode="SUBJ"><clinicalDocument classCode="DOCCLIN" moodCode="EVN"><id>{item("1.1", doc_id)}</id>'
        f'<code code="{code}" codeSystem="{OID}.2.5.1.23" codeSystemName="电子病历文档分类"><displayName value="{name}"/></code><statusCode/>'
        f'<effectiveTime value="{time}"/><confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25" codeSystemName="Confidentiality"><displayName value="正常访问保密级别"/></confidentialityCode>'
        f'<versionNumber value="1"/><storageCode><originalText value="{encoded}"/><translation/></storageCode>'
        f'<recordTarget typeCode="RCT"><patient classCode="PAT"><id>{item("2.5.1.4", "P-100")}{item("1.12", inpatient)}</id><statusCode/>'
        f'<effectiveTime><low value="20260228"/><high/></effectiveTime>'
        f'<patientPerson classCode="PSN" determinerCode="INSTANCE"><id>{item("1.3", "320102198001011234")}</id><name><item><part value="李明"/></item></name></patientPerson>'
        f'<providerOrganization classCode="ORG" determinerCode="INSTANCE"><id>{item("1.5", "123200004660031234")}</id><name><item><part value="第一医院"/></item></name>'
        f'<organizationContains classCode="PART"><id>{item("1.26", "K01")}</id></organizationContains></providerOrganization></patient></recordTarget>'
        f'<author typeCode="AUT"><time/><assignedAuthor classCode="ASSIGNED"><id>{item("1.4", "D001")}</id>'
        f'<assignedPerson classCode="PSN" determinerCode="INSTANCE"><name><item><part value="王医生"/></item></name></assignedPerson></assignedAuthor></author>'
        f'<custodian typeCode="CST"><assignedCustodian classCode="ASSIGNED"><representedOrganization classCode="ORG" determinerCode="INSTANCE">'
        f'<id>{item("1.5", "123200004660031234")}</id><name><item><part value="第一医院"/></item></name></representedOrganization></assignedCustodian></custodian>'
        f"</clinicalDocument></subject>",
        **more,
    )


def call(
    action: str, text: str, namespace: str = "urn:hl7-org:v3", names: tuple[str, str] = ("action", "message"), qualified: bool = True
) -> str:
    """HIPMessageServer with the message as an escaped string."""
    prefix = "h:" if qualified else ""
    return (
        f'<h:HIPMessageServer xmlns:h="{namespace}"><{prefix}{names[0]}>{action}</{prefix}{names[0]}>'
        f"<{prefix}{names[1]}>{escape(text)}</{prefix}{names[1]}></h:HIPMessageServer>"
    )
