"""Clinical documents for tests, in the form of WS/T 500 and of C-CDA R2.1; every person and number in them is made up."""

from __future__ import annotations

from typing import Final

DE: Final = 'codeSystem="2.16.156.10011.2.2.1" codeSystemName="卫生信息数据元目录"'
LOINC: Final = 'codeSystem="2.16.840.1.113883.6.1" codeSystemName="LOINC"'
_NAMESPACES: Final = 'xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:sdtc="urn:hl7-org:sdtc"'

# --- WS/T 500 ------------------------------------------------------------------------------------------


def de(code: str, name: str, value: str, inner: str = "", time: str = "", qualifier: str = "") -> str:
    """A data element as an observation; `value` is a whole element."""
    named = f"<qualifier><name displayName='{qualifier}'/></qualifier>" if qualifier else ""
    when = f'<effectiveTime value="{time}"/>' if time else ""
    return f'<observation classCode="OBS" moodCode="EVN"><code code="{code}" {DE} displayName="{name}">{named}</code>{when}{value}{inner}</observation>'


def st(text: str) -> str:
    return f'<value xsi:type="ST">{text}</value>'


def pq(number: str, unit: str) -> str:
    return f'<value xsi:type="PQ" value="{number}" unit="{unit}"/>'


def cd(code: str, name: str, system: str = "2.16.156.10011.2.3.3.11.3") -> str:
    return f'<value xsi:type="CD" code="{code}" codeSystem="{system}" codeSystemName="ICD-10" displayName="{name}"/>'


def part(statement: str) -> str:
    return f'<entryRelationship typeCode="COMP">{statement}</entryRelationship>'


def entry(statement: str) -> str:
    return f"<entry>{statement}</entry>"


def cluster(*statements: str) -> str:
    inside = "".join(f"<component>{one}</component>" for one in statements)
    return f'<entry><organizer classCode="CLUSTER" moodCode="EVN"><statusCode/>{inside}</organizer></entry>'


def section(code: str, name: str, *entries: str, text: str = "<text/>", extra: str = "") -> str:
    own = f'<code code="{code}" displayName="{name}" {LOINC}/>' if code else f'<code displayName="{name}"/>'
    return f"<component><section>{own}{extra}{text}{''.join(entries)}</section></component>"


def signature(kind: str, number: str, role: str, name: str) -> str:
    return (
        f'<{kind}><time/><signatureCode/><assignedEntity><id root="2.16.156.10011.1.4" extension="{number}"/><code displayName="{role}"/>'
        f'<assignedPerson classCode="PSN" determinerCode="INSTANCE"><name>{name}</name></assignedPerson></assignedEntity></{kind}>'
    )


def _part_of(levels: list[tuple[str, str, str]]) -> str:
    root, number, name = levels[0]
    named = f"<name>{name}</name>" if name else ""
    rest = _part_of(levels[1:]) if len(levels) > 1 else ""
    return (
        f'<asOrganizationPartOf classCode="PART"><wholeOrganization classCode="ORG" determinerCode="INSTANCE"><id root="2.16.156.10011.1.{root}" '
        f'extension="{number}"/>{named}{rest}</wholeOrganization></asOrganizationPartOf>'
    )


WARD: Final = (
    "<componentOf><encompassingEncounter><effectiveTime>20260310</effectiveTime><location><healthCareFacility><serviceProviderOrganization>"
    + _part_of(
        [
            ("22", "12", ""),
            ("21", "306", ""),
            ("26", "0301", "心内科"),
            ("27", "W3", "心内科一病区"),
            ("5", "12110000400686421X", "安平县人民医院"),
        ]
    )
    + "</serviceProviderOrganization></healthCareFacility></location></encompassingEncounter></componentOf>"
)


def wst(
    code: str,
    title: str,
    *sections: str,
    ids: str = '<id root="2.16.156.10011.1.12" extension="ZY0000123"/>',
    number: str = "D0000000000000000000000000000C0001",
    version: str = "",
    signatures: str = "",
    parent: str = "",
    encounter: str = "",
    participants: str = "",
    provider: str = "",
    time: str = "20260314092653",
) -> bytes:
    """A document of WS/T 500. `sections` are components of its structuredBody."""
    body = "".join(sections)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument {_NAMESPACES}>
<realmCode code="CN"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_MT000040"/><templateId root="2.16.156.10011.2.1.1.22"/>
<id root="2.16.156.10011.1.1" extension="{number}"/>
<code code="{code}" codeSystem="2.16.156.10011.2.4" codeSystemName="卫生信息共享文档规范编码体系"/><title>{title}</title>
<effectiveTime value="{time}"/>
<confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25" codeSystemName="Confidentiality" displayName="正常访问保密级别"/>
<languageCode code="zh-CN"/><setId>SET-{number[-6:]}</setId><versionNumber>{version}</versionNumber>
<recordTarget typeCode="RCT" contextControlCode="OP"><patientRole classCode="PAT">{ids}
<patient classCode="PSN" determinerCode="INSTANCE"><id root="2.16.156.10011.1.3" extension="110101198001011237"/><name>赵一鸣</name>
<administrativeGenderCode code="1" codeSystem="2.16.156.10011.2.3.3.4" codeSystemName="生理性别代码表(GB/T 2261.1)" displayName="男性"/>
<birthTime value="19800101"/><age unit="岁" value="46"/></patient>{provider}</patientRole></recordTarget>
<author typeCode="AUT" contextControlCode="OP"><time value="{time}"/><assignedAuthor classCode="ASSIGNED">
<id root="2.16.156.10011.1.7" extension="D1001"/><assignedPerson><name>钱医生</name></assignedPerson></assignedAuthor></author>
<custodian typeCode="CST"><assignedCustodian classCode="ASSIGNED"><representedCustodianOrganization classCode="ORG" determinerCode="INSTANCE">
<id root="2.16.156.10011.1.5" extension="12110000400686421X"/><name>安平县人民医院</name></representedCustodianOrganization></assignedCustodian></custodian>
{signatures}{participants}
<relatedDocument typeCode="RPLC"><parentDocument><id>{parent}</id><setId/><versionNumber/></parentDocument></relatedDocument>
{encounter}
<component><structuredBody>{body}</structuredBody></component>
</ClinicalDocument>""".encode()


_PROVIDER: Final = (
    '<providerOrganization><id root="2.16.156.10011.1.26"/><name>心内科</name><asOrganizationPartOf><wholeOrganization>'
    '<id root="2.16.156.10011.1.5" extension="12110000400686421X"/><name>安平县人民医院</name></wholeOrganization></asOrganizationPartOf>'
    "</providerOrganization>"
)


def clinic_record() -> bytes:
    """C0002: an outpatient record with diagnoses of Western and Chinese medicine, an allergy, a complaint."""
    return wst(
        "C0002",
        "门急诊病历",
        section(
            "48765-2",
            "Allergies, adverse reactions, alerts",
            entry(
                de(
                    "DE02.10.023.00",
                    "过敏史标志",
                    '<value xsi:type="BL" value="true"/>',
                    part(de("DE05.01.022.00", "过敏史", st("青霉素过敏"))),
                )
            ),
        ),
        section("10154-3", "CHIEF COMPLAINT", entry(de("DE04.01.119.00", "主诉", st("胸痛三天")))),
        section(
            "29548-5",
            "Diagnosis",
            entry(de("DE06.00.196.00", "初诊标志代码", cd("1", "初诊", "2.16.156.10011.2.3.2.39"))),
            cluster(
                de("DE05.01.025.00", "诊断名称", st("不稳定型心绞痛")),
                de("DE05.01.024.00", "诊断代码", cd("I20.000", "不稳定型心绞痛")),
                de("DE05.10.172.00", "中医病名名称", st("胸痹"), qualifier="中医病名名称"),
                de("DE05.10.130.00", "中医病名代码", cd("BNX020", "胸痹", "2.16.156.10011.2.3.3.14"), qualifier="中医病名代码"),
            ),
        ),
        signatures=signature("legalAuthenticator", "D1001", "接诊医师", "钱医生"),
        ids='<id root="2.16.156.10011.1.11" extension="MZ0000123"/>',
        provider=_PROVIDER,
    )


def prescription() -> bytes:
    """C0004: a prescription of one drug."""
    drug = (
        '<substanceAdministration classCode="SBADM" moodCode="EVN"><text/>'
        '<routeCode code="1" displayName="口服" codeSystem="2.16.156.10011.2.3.1.158" codeSystemName="用药途径代码表"/>'
        '<doseQuantity value="0.25" unit="g"/><rateQuantity value="3" unit=""/>'
        '<administrationUnitCode code="01" displayName="片剂(素片、压制片),浸膏片,非包衣片" codeSystem="2.16.156.10011.2.3.1.211" '
        'codeSystemName="药物剂型代码表"/>'
        "<consumable><manufacturedProduct><manufacturedLabeledDrug><code/><name>阿莫西林</name></manufacturedLabeledDrug></manufacturedProduct>"
        "</consumable>"
        + part(de("DE08.50.043.00", "药物规格", st("0.25g×24片")))
        + part(de("DE06.00.135.00", "药物使用总剂量", pq("5.25", "g")))
        + "</substanceAdministration>"
    )
    return wst(
        "C0004",
        "西药处方",
        section("29548-5", "Diagnosis", entry(de("DE05.01.024.00", "诊断代码", cd("J20.900", "急性支气管炎")))),
        section("10160-0", "HISTORY OF MEDICATION USE", entry(drug)),
        section(
            "48768-6", "PAYMENT SOURCES", entry(de("DE07.00.004.00", "处方药品金额", '<value xsi:type="MO" value="36.50" currency="元"/>'))
        ),
        signatures=signature("legalAuthenticator", "P1", "处方审核药剂师", "孙药师")
        + signature("authenticator", "P2", "处方调配药剂师", "李药师"),
        ids='<id root="2.16.156.10011.1.11" extension="MZ0000123"/><id root="2.16.156.10011.1.20" extension="CF1"/>',
        number="D0000000000000000000000000000C0004",
    )


def laboratory_report() -> bytes:
    """C0007: a test with its value, unit and finding in one group, the number of its order and specimen in the header."""
    specimen = (
        f'<observation classCode="OBS" moodCode="EVN"><code code="DE04.50.134.00" {DE} displayName="标本类别"/><effectiveTime>'
        '<low value="20260314073000"/><high value="20260314074500"/></effectiveTime><value xsi:type="ST">血清</value></observation>'
    )
    return wst(
        "C0007",
        "检验报告",
        section(
            "30954-2",
            "STUDIES SUMMARY",
            cluster(
                de("DE04.30.019.00", "检验项目代码", st("血清葡萄糖"), part(specimen), time="20260314080000"),
                de("DE04.30.017.00", "检验结果代码", cd("2", "异常", "2.16.156.10011.2.3.2.38")),
                de("DE04.30.015.00", "检验定量结果", '<value xsi:type="REAL" value="7.80"/>'),
                de("DE04.30.016.00", "检查定量结果计量单位", st("mmol/L")),
            ),
        ),
        section("", "检验报告", entry(de("DE04.50.130.00", "检验报告结果", st("空腹血糖升高")))),
        signatures=signature("legalAuthenticator", "D7", "审核医师", "周医师") + signature("authenticator", "T1", "检验技师", "吴技师"),
        ids='<id root="2.16.156.10011.1.12" extension="ZY0000123"/><id root="2.16.156.10011.1.33" extension="JY2026031401"/>'
        '<id root="2.16.156.10011.1.24" extension="SQ778"/><id root="2.16.156.10011.1.14" extension="BB55"/>',
        number="D0000000000000000000000000000C0007",
        encounter=WARD,
    )


def vital_signs() -> bytes:
    """C0020: vital signs, one with its unit in Chinese, one without any; blood pressure in a group."""
    return wst(
        "C0020",
        "生命体征测量记录",
        section(
            "8716-3",
            "VITAL SIGNS",
            entry(de("DE04.10.186.00", "体温", pq("36.8", "℃"))),
            entry(de("DE04.10.118.00", "脉率", pq("78", "次/min"))),
            cluster(de("DE04.10.174.00", "收缩压", pq("128", "mmHg")), de("DE04.10.176.00", "舒张压", pq("82", ""))),
        ),
        number="D0000000000000000000000000000C0020",
        encounter=WARD,
    )


def discharge_summary(parent: str = "D0000000000000000000000000000C0052", version: str = "2") -> bytes:
    """C0053: a discharge summary that replaces another one, with an operation and a text of its own."""
    operation = (
        '<procedure classCode="PROC" moodCode="EVN"><code code="36.0601" displayName="冠状动脉支架植入术" '
        'codeSystem="2.16.156.10011.2.3.3.12" codeSystemName="手术(操作)代码表(ICD-9-CM)"/><statusCode/><effectiveTime value="20260312101500"/>'
        + part(de("DE06.00.257.00", "手术切口类别代码", cd("1", "0类切口", "2.16.156.10011.2.3.1.256")))
        + "</procedure>"
    )
    return wst(
        "C0053",
        "出院小结",
        section("11450-4", "PROBLEM LIST", entry(de("DE05.10.148.00", "入院情况", st("胸痛入院"))), text="<text>入院时胸痛。</text>"),
        section("11535-2", "HOSPITAL DISCHARGE DX", entry(de("DE05.01.024.00", "出院诊断编码", cd("I21.900", "急性心肌梗死")))),
        section("47519-4", "HISTORY OF PROCEDURES", entry(operation)),
        number="D0000000000000000000000000000C0053",
        parent=parent,
        version=version,
        encounter=WARD.replace(
            "<effectiveTime>20260310</effectiveTime>",
            '<effectiveTime><low value="20260310083000"/><high value="20260314100000"/></effectiveTime>',
        ),
    )
