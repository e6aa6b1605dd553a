"""Messages of the hospital platform (WS/T 846-2024) and clinical documents (WS/T 500), as a vendor's platform writes them.

A foreign hand, as everything of the demo: it shares no line with adapters.soap, engine.formats.hip or a schema.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from xml.sax.saxutils import escape, quoteattr

VENDOR: Final = "HIP-COUNTY"
_OID: Final = "2.16.156.10011"
_ORGANIZATION: Final = "129990000000000001"
_HOSPITAL: Final = "虚构县人民医院"
_XSI: Final = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
_INSTANCE: Final = 'determinerCode="INSTANCE"'


@dataclass(frozen=True, slots=True)
class Inpatient:
    """Somebody who was admitted this morning, as the platform knows him. `sex` is M or F; `born` YYYYMMDD; `number` the inpatient number."""

    record_number: str
    identity: str
    name: str
    sex: str
    born: str
    phone: str
    visit: str
    number: str
    diagnosis: tuple[str, str]
    admitted: datetime


def stamp(moment: datetime) -> str:
    return f"{moment:%Y%m%d%H%M%S}"


def _item(oid: str, extension: str) -> str:
    return f'<item root="{_OID}.{oid}" extension={quoteattr(extension)}/>'


def _name(kind: str, text: str) -> str:
    return f'<name xsi:type="{kind}"><item><part value={quoteattr(text)}/></item></name>'


def _device(role: str, code: str, number: str) -> str:
    device = f'<device classCode="DEV" {_INSTANCE}><id>{_item("2.5.1.3", number)}</id></device>'
    return f'<{role} typeCode="{code}">{device}</{role}>'


def interaction(root: str, number: str, at: datetime, content: str) -> str:
    """The message around a subject: the transmission wrapper (WS/T 846.1)."""
    return (
        f'<{root} xmlns="urn:hl7-org:v3" {_XSI} ITSVersion="XML_1.0">{_id("2.5.1.1", number)}<creationTime value="{stamp(at)}"/>'
        f'{_id("2.5.1.2", root)}<processingCode code="P"/><processingModeCode/><acceptAckCode code="AL"/>'
        f'{_device("receiver", "RCV", "MERIDIAN")}{_device("sender", "SND", VENDOR)}'
        f'<controlActProcess classCode="ACTN" moodCode="EVN"><subject typeCode="SUBJ">{content}</subject></controlActProcess></{root}>'
    ).replace(f'<id root="{_OID}.2.5.1.2"', f'<interactionId root="{_OID}.2.5.1.2"')


def _id(oid: str, extension: str) -> str:
    return f'<id root="{_OID}.{oid}" extension={quoteattr(extension)}/>'


def _doctor(role: str) -> str:
    return (
        f'<{role} classCode="ASSIGNED"><id>{_item("1.4", "D0101")}</id><assignedPerson classCode="PSN" {_INSTANCE}>'
        f'{_name("LIST_EN", "林医生")}</assignedPerson></{role}>'
    )


def _gender(sex: str) -> str:
    code, text = ("1", "男性") if sex == "M" else ("2", "女性")
    return f'<administrativeGenderCode code="{code}" codeSystem="{_OID}.2.3.3.4"><displayName value="{text}"/></administrativeGenderCode>'


def person(somebody: Inpatient, number: str, at: datetime) -> str:
    """PatientInfoRegister."""
    return interaction(
        "PRPA_IN201311UV02",
        number,
        at,
        f'<registrationRequest classCode="REG" moodCode="RQO"><statusCode code="active"/><subject1 typeCode="SBJ"><patient classCode="PAT">'
        f'<id>{_item("2.5.1.4", somebody.record_number)}</id><statusCode code="active"/>'
        f'<effectiveTime><any value="{stamp(at)}"/></effectiveTime><patientPerson><id>{_item("1.3", somebody.identity)}</id>'
        f'<idCategory code="01" codeSystem="{_OID}.2.3.1.1"><displayName value="居民身份证"/></idCategory>{_name("LIST_EN", somebody.name)}'
        f'<telecom xsi:type="DSET_TEL"><item value={quoteattr(somebody.phone)}/></telecom>{_gender(somebody.sex)}<birthTime value="{somebody.born}"/>'
        f'</patientPerson><providerOrganization classCode="ORG" {_INSTANCE}><id>{_item("1.5", _ORGANIZATION)}</id>{_name("LIST_EN", _HOSPITAL)}'
        f'<contactParty classCode="CON"/></providerOrganization></patient></subject1>'
        f'<author typeCode="AUT">{_doctor("assignedEntity")}</author></registrationRequest>',
    )


def encounter(somebody: Inpatient, number: str, at: datetime) -> str:
    """InPatientInfoAdd."""
    code, text = somebody.diagnosis
    return interaction(
        "PRPA_IN400001UV",
        number,
        at,
        f'<encounterEvent classCode="ENC" moodCode="EVN"><id>{_item("1.12", somebody.number)}{_item("2.5.1.8", "1")}'
        f'{_item("2.5.1.9", somebody.visit)}</id><code code="3" codeSystem="{_OID}.2.3.1.271"><displayName value="住院"/></code><statusCode/>'
        f'<effectiveTime><low value="{stamp(somebody.admitted)}"/></effectiveTime>'
        f'<subject typeCode="SBJ"><patient classCode="PAT"><id>{_item("2.5.1.4", somebody.record_number)}</id><patientPerson>'
        f'<id>{_item("1.3", somebody.identity)}</id>{_name("DSET_EN", somebody.name)}</patientPerson></patient></subject>'
        f'<reason typeCode="RSON"><observationDx classCode="OBS" moodCode="EVN"><code/><statusCode/>'
        f'<value code="{code}" codeSystem="{_OID}.2.3.3.11"><displayName value={quoteattr(text)}/></value>'
        f'<author typeCode="AUT"><assignedEntity classCode="ASSIGNED"><id>{_item("1.4", "D0101")}</id></assignedEntity></author>'
        f"</observationDx></reason></encounterEvent>",
    )


def order(somebody: Inpatient, number: str, at: datetime, placer: str) -> str:
    """ExamAppInfoAdd: a glucose test."""
    return interaction(
        "POOR_IN200901UV",
        number,
        at,
        f'<observationRequest classCode="OBS" moodCode="RQO"><id>{_item("1.24", f"A{placer}")}</id><code/><text value="常规检验"/>'
        f'<statusCode code="active"/><effectiveTime xsi:type="IVL_TS"><low value="{stamp(at)}"/></effectiveTime>'
        f'<priorityCode code="R"><displayName value="常规"/></priorityCode>'
        f'<author typeCode="AUT"><time value="{stamp(at)}"/>{_doctor("assignedEntity")}</author>'
        f'<component2><observationRequest classCode="OBS" moodCode="RQO"><id>{_item("1.28", placer)}</id>'
        f'<code code="GLU"><displayName value="血清葡萄糖"/></code><statusCode/></observationRequest></component2>'
        f'<componentOf1 typeCode="COMP"><encounter classCode="ENC" moodCode="EVN"><id>{_item("1.12", somebody.number)}'
        f'{_item("2.5.1.9", somebody.visit)}</id><code code="3" codeSystem="{_OID}.2.3.1.271"><displayName value="住院"/></code><statusCode/>'
        f'<subject typeCode="SBJ"><patient classCode="PAT"><id>{_item("2.5.1.4", somebody.record_number)}</id><patientPerson classCode="PSN">'
        f'<id>{_item("1.3", somebody.identity)}</id>{_name("BAG_EN", somebody.name)}{_gender(somebody.sex)}<birthTime value="{somebody.born}"/>'
        f"</patientPerson></patient></subject></encounter></componentOf1></observationRequest>",
    )


def registration(somebody: Inpatient, number: str, at: datetime, document_id: str, document: bytes) -> str:
    """DocumentRegister: `document` of C0007 in base64."""
    content = base64.b64encode(document).decode("ascii")
    return interaction(
        "RCMR_IN000002UV02",
        number,
        at,
        f'<clinicalDocument classCode="DOCCLIN" moodCode="EVN"><id>{_item("1.1", document_id)}</id>'
        f'<code code="C0007" codeSystem="{_OID}.2.5.1.23"><displayName value="检验报告"/></code><statusCode/><effectiveTime value="{stamp(at)}"/>'
        f'<confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"><displayName value="正常访问保密级别"/></confidentialityCode>'
        f'<versionNumber value="1"/><storageCode><originalText value="{content}"/><translation/></storageCode>'
        f'<recordTarget typeCode="RCT"><patient classCode="PAT"><id>{_item("2.5.1.4", somebody.record_number)}{_item("1.12", somebody.number)}</id>'
        f'<statusCode/><effectiveTime><low value="{stamp(somebody.admitted)}"/><high/></effectiveTime><patientPerson classCode="PSN" {_INSTANCE}>'
        f'<id>{_item("1.3", somebody.identity)}</id>{_name("LIST_EN", somebody.name)}</patientPerson>{_provider()}</patient></recordTarget>'
        f'<author typeCode="AUT"><time value="{stamp(at)}"/>{_doctor("assignedAuthor")}</author>'
        f'<custodian typeCode="CST"><assignedCustodian classCode="ASSIGNED"><representedOrganization classCode="ORG" {_INSTANCE}>'
        f'<id>{_item("1.5", _ORGANIZATION)}</id>{_name("LIST_EN", _HOSPITAL)}</representedOrganization></assignedCustodian></custodian>'
        f"</clinicalDocument>",
    )


def _provider() -> str:
    return f'<providerOrganization classCode="ORG" {_INSTANCE}><id>{_item("1.5", _ORGANIZATION)}</id>{_name("LIST_EN", _HOSPITAL)}</providerOrganization>'


def report(somebody: Inpatient, document_id: str, at: datetime, results: Sequence[tuple[str, str, str]]) -> bytes:
    """C0007, a laboratory report; `results` are (name, value, unit)."""
    rows = "".join(f"<entry>{_result(name, value, unit)}</entry>" for name, value, unit in results)
    gender = "男性" if somebody.sex == "M" else "女性"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ClinicalDocument xmlns="urn:hl7-org:v3" {_XSI}><realmCode code="CN"/>'
        f'<typeId root="2.16.840.1.113883.1.3" extension="POCD_MT000040"/><templateId root="{_OID}.2.1.1.27"/>{_id("1.1", document_id)}'
        f'<code code="C0007" codeSystem="{_OID}.2.4" codeSystemName="卫生信息共享文档规范编码体系"/><title>检验报告</title>'
        f'<effectiveTime value="{stamp(at)}"/><confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/><languageCode code="zh-CN"/>'
        f'<setId/><versionNumber/><recordTarget typeCode="RCT" contextControlCode="OP"><patientRole classCode="PAT">{_id("1.12", somebody.number)}'
        f'<patient classCode="PSN" {_INSTANCE}>{_id("1.3", somebody.identity)}<name>{escape(somebody.name)}</name>'
        f'<administrativeGenderCode code="{1 if somebody.sex == "M" else 2}" codeSystem="{_OID}.2.3.3.4" displayName="{gender}"/>'
        f'<birthTime value="{somebody.born}"/></patient></patientRole></recordTarget><author typeCode="AUT" contextControlCode="OP">'
        f'<time value="{stamp(at)}"/><assignedAuthor classCode="ASSIGNED">{_id("1.7", "D0101")}<assignedPerson><name>林医生</name></assignedPerson>'
        f'</assignedAuthor></author><custodian typeCode="CST"><assignedCustodian classCode="ASSIGNED">'
        f'<representedCustodianOrganization classCode="ORG" {_INSTANCE}>{_id("1.5", _ORGANIZATION)}<name>{_HOSPITAL}</name>'
        f"</representedCustodianOrganization></assignedCustodian></custodian><component><structuredBody><component><section>"
        f'<code code="30954-2" codeSystem="2.16.840.1.113883.6.1" displayName="STUDIES SUMMARY"/>'
        f"<text>空腹采血，{'；'.join(f'{name} {value} {unit}' for name, value, unit in results)}。</text>{rows}"
        f"</section></component></structuredBody></component></ClinicalDocument>"
    ).encode()


def _result(name: str, value: str, unit: str) -> str:
    parts = (
        ("DE04.30.019.00", "检验项目代码", f'<value xsi:type="ST">{name}</value>'),
        ("DE04.30.015.00", "检验定量结果", f'<value xsi:type="REAL" value="{value}"/>'),
        ("DE04.30.016.00", "检查定量结果计量单位", f'<value xsi:type="ST">{unit}</value>'),
    )
    inside = "".join(
        f'<component><observation classCode="OBS" moodCode="EVN"><code code="{code}" codeSystem="{_OID}.2.2.1" displayName="{text}"/>{said}'
        "</observation></component>"
        for code, text, said in parts
    )
    return f'<organizer classCode="CLUSTER" moodCode="EVN"><statusCode/>{inside}</organizer>'
