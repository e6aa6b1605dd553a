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
<patient classCode="PSN" determinerCode="INSTANCE"><id root="2.16.156.10011.1.3" extension="110101198001011232"/><name>赵一鸣</name>
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


def prescription(*, total: bool = True) -> bytes:
    """C0004: a prescription of one drug; `total` with its total amount, for which the schema knows no unit but days."""
    drug = (
        '<substanceAdministration classCode="SBADM" moodCode="EVN"><text/>'
        '<routeCode code="1" displayName="口服" codeSystem="2.16.156.10011.2.3.1.158" codeSystemName="用药途径代码表"/>'
        '<doseQuantity value="0.25" unit="g"/><rateQuantity value="3" unit=""/>'
        '<administrationUnitCode code="01" displayName="片剂(素片、压制片),浸膏片,非包衣片" codeSystem="2.16.156.10011.2.3.1.211" '
        'codeSystemName="药物剂型代码表"/>'
        "<consumable><manufacturedProduct><manufacturedLabeledDrug><code/><name>阿莫西林</name></manufacturedLabeledDrug></manufacturedProduct>"
        "</consumable>"
        + part(de("DE08.50.043.00", "药物规格", st("0.25g×24片")))
        + (part(de("DE06.00.135.00", "药物使用总剂量", pq("5.25", "g"))) if total else "")
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
                de("DE04.30.019.00", "检验项目代码", st("血清葡萄糖"), part(specimen), time="20260314"),
                de("DE04.30.017.00", "检验结果代码", cd("2", "异常", "2.16.156.10011.2.3.2.38")),
                de("DE04.30.015.00", "检验定量结果", '<value xsi:type="REAL" value="7.8000"/>'),
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


# --- C-CDA R2.1 ------------------------------------------------------------------------------------------

_T: Final = "2.16.840.1.113883.10.20.22"
SNOMED: Final = 'codeSystem="2.16.840.1.113883.6.96" codeSystemName="SNOMED CT"'


def template(*roots: str) -> str:
    return "".join(f'<templateId root="{_T}.{root}" extension="2015-08-01"/>' for root in roots)


def ccd(
    *sections: str,
    ids: str = '<id root="2.16.840.1.113883.19.5.99" extension="MRN-77"/>',
    number: str = "11110000-aaaa-4bbb-8ccc-000000000001",
) -> bytes:
    """A Continuity of Care Document. `sections` are components of its structuredBody."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument {_NAMESPACES}><realmCode code="US"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>{template("1.1", "1.2")}
<id root="{number}"/><code code="34133-9" displayName="Summarization of Episode Note" {LOINC}/><title>Continuity of Care Document</title>
<effectiveTime value="20260314092653-0500"/><confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/><languageCode code="en-US"/>
<setId root="1.2.3.4.5" extension="S-1"/><versionNumber value="1"/>
<recordTarget><patientRole>{ids}<id nullFlavor="NI"/>
<addr use="HP"><streetAddressLine>1 Elm Street</streetAddressLine><city>Springfield</city><state>OR</state><postalCode>97000</postalCode><country>US</country></addr>
<telecom use="HP" value="tel:+1(555)555-2003"/>
<patient><name use="L"><given>Ada</given><given>M</given><family>Bell</family></name><administrativeGenderCode code="F" codeSystem="2.16.840.1.113883.5.1"/>
<birthTime value="19700501"/><maritalStatusCode code="M" displayName="Married" codeSystem="2.16.840.1.113883.5.2"/>
<languageCommunication><languageCode code="en"/><preferenceInd value="true"/></languageCommunication></patient>
<providerOrganization><id root="2.16.840.1.113883.4.6" extension="1234567893"/><name>Good Clinic</name><telecom value="tel:+1(555)555-0001"/></providerOrganization>
</patientRole></recordTarget>
<author><time value="20260314092653-0500"/><assignedAuthor><id root="2.16.840.1.113883.4.6" extension="1245319599"/><assignedPerson><name><prefix>Dr</prefix><given>Iris</given>
<family>Cole</family></name></assignedPerson><representedOrganization><name>Good Clinic</name></representedOrganization></assignedAuthor></author>
<author><time value="20260314092653-0500"/><assignedAuthor><id nullFlavor="NI"/><assignedAuthoringDevice><manufacturerModelName>Scribe</manufacturerModelName>
<softwareName>Scribe 4</softwareName></assignedAuthoringDevice></assignedAuthor></author>
<custodian><assignedCustodian><representedCustodianOrganization><id root="2.16.840.1.113883.4.6" extension="1234567893"/><name>Good Clinic</name>
</representedCustodianOrganization></assignedCustodian></custodian>
<documentationOf><serviceEvent classCode="PCPR"><effectiveTime><low value="20250101"/><high value="20260314"/></effectiveTime></serviceEvent></documentationOf>
<componentOf><encompassingEncounter><id root="1.2.3.4.5.6" extension="V-9"/><code code="AMB" codeSystem="2.16.840.1.113883.5.4"/><effectiveTime>
<low value="202603140900-0500"/><high value="202603140930-0500"/></effectiveTime></encompassingEncounter></componentOf>
<component><structuredBody>{"".join(sections)}</structuredBody></component></ClinicalDocument>""".encode()


def us_section(code: str, title: str, *entries: str, text: str = "Nothing to add.") -> str:
    inside = "".join(f"<entry>{one}</entry>" for one in entries)
    return f"<component><section><code code='{code}' {LOINC}/><title>{title}</title><text>{text}</text>{inside}</section></component>"


def rel(statement: str, kind: str = "SUBJ") -> str:
    return f'<entryRelationship typeCode="{kind}">{statement}</entryRelationship>'


def span(low: str = "", high: str = "") -> str:
    ends = (f'<low value="{low}"/>' if low else "<low nullFlavor='UNK'/>") + (f'<high value="{high}"/>' if high else "")
    return f"<effectiveTime>{ends}</effectiveTime>"


def coded(code: str, name: str, inner: str = "") -> str:
    return f'<value xsi:type="CD" code="{code}" displayName="{name}" {SNOMED}>{inner}</value>'


def problem(identifier: str, code: str, name: str, low: str = "20240101", high: str = "", negated: str = "", status: str = "active") -> str:
    """A concern with its problem, which has an ICD-10-CM translation."""
    translation = '<translation code="J45.909" displayName="Unspecified asthma" codeSystem="2.16.840.1.113883.6.90"/>'
    return (
        f'<act classCode="ACT" moodCode="EVN">{template("4.3")}<id root="1.2.3.9" extension="C-{identifier}"/><code code="CONC" '
        f'codeSystem="2.16.840.1.113883.5.6"/><statusCode code="{status}"/>{span(low)}'
        + rel(
            f'<observation classCode="OBS" moodCode="EVN" {negated}>{template("4.4")}<id root="1.2.3.9" extension="{identifier}"/>'
            f'<code code="55607006" displayName="Problem" {SNOMED}/><text><reference value="#p{identifier}"/></text><statusCode code="completed"/>'
            f"{span(low, high)}{coded(code, name, translation if code == '195967001' else '')}"
            "<author><time value='20260301'/><assignedAuthor><id root='2.16.840.1.113883.4.6' extension='1245319599'/></assignedAuthor></author>"
            "</observation>"
        )
        + "</act>"
    )


def drug(code: str, name: str, extra: str = "") -> str:
    return (
        f'<consumable><manufacturedProduct classCode="MANU"><manufacturedMaterial><code code="{code}" displayName="{name}" '
        f'codeSystem="2.16.840.1.113883.6.88"/>{extra}</manufacturedMaterial></manufacturedProduct></consumable>'
    )


def us_medication(mood: str = "EVN", negated: str = "") -> str:
    """Twice a day, by mouth, as needed."""
    return (
        f'<substanceAdministration classCode="SBADM" moodCode="{mood}" {negated}>{template("4.16")}<id root="1.2.3.10" extension="M-{mood}{len(negated)}"/>'
        '<text><reference value="#med1"/></text><statusCode code="active"/><effectiveTime xsi:type="IVL_TS"><low value="20260101"/></effectiveTime>'
        '<effectiveTime xsi:type="PIVL_TS" institutionSpecified="true" operator="A"><period value="12" unit="h"/></effectiveTime>'
        '<routeCode code="C38288" displayName="ORAL" codeSystem="2.16.840.1.113883.3.26.1.1"/><doseQuantity value="1"/>'
        f"<maxDoseQuantity><numerator value='4' unit='1'/><denominator value='1' unit='d'/></maxDoseQuantity>{drug('573621', 'Proventil 0.09 MG/ACTUAT')}"
        f'<precondition typeCode="PRCN"><criterion><value xsi:type="CD" code="56018004" displayName="Wheezing" {SNOMED}/></criterion></precondition>'
        f'{rel(f"""<observation classCode="OBS" moodCode="EVN">{template("4.19")}<code code="55607006" {SNOMED}/>{coded("195967001", "Asthma")}</observation>""", "RSON")}'
        "</substanceAdministration>"
    )


def us_allergy(negated: str = "", entity: str = '<code code="7982" displayName="Penicillin" codeSystem="2.16.840.1.113883.6.88"/>') -> str:
    severity = f'<observation classCode="OBS" moodCode="EVN">{template("4.8")}<code code="SEV"/>{coded("24484000", "Severe")}</observation>'
    reaction = (
        f'<observation classCode="OBS" moodCode="EVN">{template("4.9")}<id nullFlavor="NI"/><code code="ASSERTION"/>{span("20100101")}'
        f"{coded('247472004', 'Hives')}{rel(severity)}</observation>"
    )
    return (
        f'<act classCode="ACT" moodCode="EVN">{template("4.30")}<id root="1.2.3.11" extension="AC"/><statusCode code="active"/>'
        + rel(
            f'<observation classCode="OBS" moodCode="EVN" {negated}>{template("4.7")}<id root="1.2.3.11" extension="A-{len(negated)}{len(entity)}"/>'
            f'<code code="ASSERTION" codeSystem="2.16.840.1.113883.5.4"/><statusCode code="completed"/>{span("20100101")}'
            f"{coded('416098002', 'Allergy to drug')}"
            f'<participant typeCode="CSM"><participantRole classCode="MANU"><playingEntity classCode="MMAT">{entity}</playingEntity></participantRole></participant>'
            f"{rel(reaction, 'MFST') if not negated else ''}</observation>"
        )
        + "</act>"
    )


def us_result(number: str, code: str, name: str, value: str, rest: str = "") -> str:
    return (
        f'<observation classCode="OBS" moodCode="EVN">{template("4.2")}<id root="1.2.3.12" extension="{number}"/><code code="{code}" displayName="{name}" {LOINC}/>'
        f'<statusCode code="completed"/><effectiveTime value="20260310081500-0500"/>{value}{rest}</observation>'
    )


RANGE: Final = (
    '<interpretationCode code="H" codeSystem="2.16.840.1.113883.5.83"/><referenceRange><observationRange><text>12.0 to 15.5</text>'
    '<value xsi:type="IVL_PQ"><low value="12.0" unit="g/dL"/><high value="15.5" unit="g/dL"/></value></observationRange></referenceRange>'
)


def organizer(role: str, *members: str, name: str = "CBC W Auto Differential panel - Blood", code: str = "57021-8") -> str:
    inside = "".join(f"<component>{one}</component>" for one in members)
    return (
        f'<organizer classCode="BATTERY" moodCode="EVN">{template(role)}<id root="1.2.3.13" extension="O-{role}"/><code code="{code}" displayName="{name}" {LOINC}/>'
        f'<statusCode code="completed"/><effectiveTime><low value="20260310"/><high value="20260310"/></effectiveTime>{inside}</organizer>'
    )


def vital(number: str, code: str, name: str, amount: str, unit: str) -> str:
    return (
        f'<observation classCode="OBS" moodCode="EVN">{template("4.27")}<id root="1.2.3.14" extension="{number}"/><code code="{code}" displayName="{name}" {LOINC}/>'
        f'<statusCode code="completed"/><effectiveTime value="20260314091000-0500"/><value xsi:type="PQ" value="{amount}" unit="{unit}"/></observation>'
    )


def us_procedure(mood: str = "EVN", negated: str = "") -> str:
    return (
        f'<procedure classCode="PROC" moodCode="{mood}" {negated}>{template("4.14")}<id root="1.2.3.15" extension="P-{mood}"/>'
        f'<code code="80146002" displayName="Appendectomy" {SNOMED}><originalText><reference value="#proc1"/></originalText></code>'
        '<statusCode code="completed"/><effectiveTime value="20191203"/>'
        f'<targetSiteCode code="66754008" displayName="Appendix" {SNOMED}/><performer><assignedEntity><id root="2.16.840.1.113883.4.6" extension="1245319599"/>'
        "</assignedEntity></performer></procedure>"
    )


def us_immunization(negated: str = "") -> str:
    refusal = f'<observation classCode="OBS" moodCode="EVN">{template("4.53")}<code code="PATOBJ" displayName="patient objection" codeSystem="2.16.840.1.113883.5.8"/></observation>'
    vaccine = drug("88", "Influenza", "<lotNumberText>L-1</lotNumberText>").replace("2.16.840.1.113883.6.88", "2.16.840.1.113883.12.292")
    return (
        f'<substanceAdministration classCode="SBADM" moodCode="EVN" {negated or "negationInd=" + chr(34) + "false" + chr(34)}>{template("4.52")}'
        f'<id root="1.2.3.16" extension="I-{len(negated)}"/><statusCode code="completed"/><effectiveTime value="20251001"/>{vaccine}'
        f"{rel(refusal, 'RSON') if negated else ''}</substanceAdministration>"
    )


def smoking() -> str:
    return (
        f'<observation classCode="OBS" moodCode="EVN">{template("4.78")}<id root="1.2.3.17" extension="S1"/><code code="72166-2" displayName="Tobacco smoking status" {LOINC}/>'
        f'<statusCode code="completed"/><effectiveTime value="20260314"/>{coded("8517006", "Ex-smoker")}</observation>'
    )


def family() -> str:
    return (
        f'<organizer classCode="CLUSTER" moodCode="EVN">{template("4.45")}<id root="1.2.3.18" extension="F1"/><statusCode code="completed"/><subject><relatedSubject '
        'classCode="PRS"><code code="FTH" displayName="Father" codeSystem="2.16.840.1.113883.5.111"/><subject><administrativeGenderCode code="M"/>'
        '<birthTime value="1940"/></subject></relatedSubject></subject><component>'
        f'<observation classCode="OBS" moodCode="EVN">{template("4.46")}<code code="55607006" {SNOMED}/>{coded("22298006", "Myocardial infarction")}</observation>'
        "</component></organizer>"
    )


def visit(mood: str = "EVN") -> str:
    """An encounter activity, with a class in its translation."""
    return (
        f'<encounter classCode="ENC" moodCode="{mood}">{template("4.49")}<id root="1.2.3.19" extension="E-{mood}"/><code code="99213" '
        'displayName="Office visit" codeSystem="2.16.840.1.113883.6.12"><translation code="AMB" codeSystem="2.16.840.1.113883.5.4"/></code>'
        '<effectiveTime value="20260227130000-0500"/><participant typeCode="LOC"><participantRole classCode="SDLOC"><playingEntity><name>Urgent Care</name>'
        "</playingEntity></participantRole></participant></encounter>"
    )


ALLERGY_TABLE: Final = (
    '<table border="1"><caption>Allergies</caption><thead><tr><th>Substance</th><th colspan="2">Reaction</th></tr></thead><tbody>'
    '<tr><td ID="a1">Penicillin &amp; kin</td><td styleCode="Bold">Hives</td><td><content styleCode="Bold">severe</content></td></tr></tbody></table>'
)


def continuity_of_care() -> bytes:
    """A CCD with every kind of section that has rules."""
    dosed = '<list listType="ordered"><caption>Now</caption><item><content ID="med1">Proventil twice a day</content></item></list>'
    hemoglobin = us_result("R1", "718-7", "Hemoglobin", '<value xsi:type="PQ" value="16.20" unit="g/dL"/>', RANGE)
    culture = us_result("R2", "600-7", "Bacteria identified", coded("112283007", "Escherichia coli"))
    titre = us_result(
        "R3", "5334-6", "Rubella titre", '<value xsi:type="RTO_PQ_PQ"><numerator value="1"/><denominator value="128"/></value>'
    )
    below = us_result("R4", "2857-1", "PSA", '<value xsi:type="IVL_PQ"><high value="0.1" unit="ng/mL" inclusive="false"/></value>')
    missing = us_result("R5", "2345-7", "Glucose", '<value xsi:type="PQ" nullFlavor="NAV"/>')
    no_drugs = '<code nullFlavor="NA"/>'
    return ccd(
        us_section("11450-4", "Problems", problem("1", "195967001", "Asthma"), problem("2", "233604007", "Pneumonia", "20230101", "20230201"),
                   problem("3", "44054006", "Diabetes", negated='negationInd="true"'), text='<content ID="p1">Asthma</content>'),
        us_section("10160-0", "Medications", us_medication(), us_medication("INT"), us_medication("EVN", 'negationInd="true"'), text=dosed),
        us_section("48765-2", "Allergies", us_allergy(), us_allergy('negationInd="true"', no_drugs), text=ALLERGY_TABLE),
        us_section("30954-2", "Results", organizer("4.1", hemoglobin, culture, titre, below, missing)),
        us_section("8716-3", "Vital signs", organizer("4.26", vital("V1", "8480-6", "Systolic", "132", "mm[Hg]"), vital("V2", "8310-5", "Temp", "36.9", "Cel"),
                                                      code="46680005", name="Vital signs")),
        us_section("47519-4", "Procedures", us_procedure(), us_procedure("RQO"), text='<paragraph ID="proc1">Appendix taken out</paragraph>'),
        us_section("11369-6", "Immunizations", us_immunization(), us_immunization('negationInd="true"')),
        us_section("29762-2", "Social history", smoking()),
        us_section("10157-6", "Family history", family()),
        us_section("46240-8", "Encounters", visit(), visit("INT")),
    )  # fmt: skip


def scanned(media_type: str = "application/pdf", data: str = "JVBERi0xLjQK") -> bytes:
    """A document whose body is no XML."""
    whole = ccd()
    begin, end = whole.index(b"<component><structuredBody>"), whole.index(b"</ClinicalDocument>")
    body = f'<component><nonXMLBody><text mediaType="{media_type}" representation="B64">{data}</text></nonXMLBody></component>'
    return whole[:begin] + body.encode() + whole[end:]
