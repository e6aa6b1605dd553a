"""The entries of a section: which rule each statement is for."""

from __future__ import annotations

from dataclasses import replace

from engine.formats.cda import Element, attribute, children, first, local
from mappings.cda_to_fhir.conditions import Conditions
from mappings.cda_to_fhir.encounters import Encounters
from mappings.cda_to_fhir.medications import Medications
from mappings.cda_to_fhir.observations import Observations
from mappings.cda_to_fhir.procedures import Procedures
from mappings.cda_to_fhir.statements import DATA_ELEMENTS, PLANNED, STATEMENTS, About, Kit
from mappings.transaction import Body

_DIAGNOSIS = ("condition", "condition-name")
_ALLERGY = ("allergy", "allergy-flag")
_OF_RELATIVES = ("family", "problem", "diagnosis", "concern")
_OF_ITEM = ("value", "unit", "finding")


class Entries:
    """All statements of one document."""

    def __init__(self, kit: Kit, prescribed: bool) -> None:
        self._kit = kit
        self._observations, self._conditions = Observations(kit), Conditions(kit)
        self._encounters = Encounters(kit)
        self._medications, self._procedures = Medications(kit, prescribed), Procedures(kit)

    def of_section(self, section: Element, about: About) -> list[Body]:
        """References to what the entries of a section have become."""
        found: list[Body] = []
        for entry in children(section, "entry"):
            for statement in entry:
                if local(statement.tag) in STATEMENTS:
                    found += self.statement(statement, about)
                elif isinstance(statement.tag, str) and local(statement.tag) not in ("templateId", "sequenceNumber"):
                    self._kit.source.lost(statement, "not carried: no rule for this kind of entry")
        return list({one["reference"]: one for one in found}.values())

    def statement(self, statement: Element, about: About) -> list[Body]:
        """References to what one statement has become; none where it says nothing, or nothing that a rule knows."""
        if not self._kit.source.count(statement):
            return []
        if about.too_deep:
            self._kit.source.lost(statement, "not carried: nested too deep")
            return []
        if attribute(first(statement, "statusCode"), "code").lower() == "nullified":
            about = replace(about, withdrawn=True)
        name = local(statement.tag)
        role = self._kit.role(statement, about)
        if role == "family" or first(statement, "subject") is not None:
            return self._of_others(statement, role, about)
        if name == "observation" and first(statement, "component") is not None:
            name = "organizer"  # seen in the field: a group that is called an observation
        made: Body | None
        if name == "organizer":
            return self._organizer(statement, role, about)
        if name == "act":
            return self._act(statement, role, about)
        if name == "substanceAdministration":
            rule = self._medications.immunization if role == "immunization" else self._medications.medication
            made = rule(statement, about)
        elif name == "encounter":
            made = self._encounters.told(statement, about)
        elif name == "observation" and (found := self._together(statement, role, about)):
            return found
        elif name in ("observation", "procedure"):
            made = self._single(statement, name, role, about)
        else:
            self._kit.source.lost(statement, f"not carried: no rule for {name}")
            return []
        return [made] if made is not None else []

    def _together(self, statement: Element, role: str, about: About) -> list[Body]:
        """What a data element and those inside it say together."""
        if attribute(statement, "moodCode") in PLANNED:
            return []
        if role in _DIAGNOSIS:
            return self._diagnoses([statement, *self._inside(statement, _DIAGNOSIS)], about)
        if self._row_role(statement) in _ALLERGY:
            return self._conditions.told_allergies(statement, [statement, *self._inside(statement, _ALLERGY)], about)
        return []

    def _of_others(self, statement: Element, role: str, about: About) -> list[Body]:
        """What is told of somebody else than the patient: a relative's history, or left to the text of the section."""
        if role not in _OF_RELATIVES:
            self._kit.source.lost(statement, "not carried: about somebody else than the patient")
            return []
        inner = [one for _, one in self._kit.related(statement) if local(one.tag) == "organizer" or first(one, "subject") is not None]
        if inner and first(statement, "subject") is None:
            return [made for one in inner for made in self.statement(one, about.within())]
        return [self._procedures.family(statement, about)]

    def _single(self, statement: Element, name: str, role: str, about: About) -> Body | None:
        mood = attribute(statement, "moodCode")
        if mood in PLANNED:
            return self._procedures.request(statement, about)
        if mood == "GOL":
            self._kit.source.lost(statement, "not carried: a goal")
            return None
        if name == "procedure":
            return self._procedures.procedure(statement, about)
        element = attribute(first(statement, "code"), "codeSystem") == DATA_ELEMENTS
        if role in ("problem", "diagnosis"):
            problem = about if about.role in ("problem", "diagnosis") else about.within(role="problem")
            return self._conditions.condition(statement, [statement], problem)
        if role == "allergy":
            return self._conditions.allergy(statement, about)
        if element and role == "procedure":
            return self._procedures.procedure(statement, about, next(iter(self._inside(statement, ("procedure-name",))), None))
        if role == "procedure" and self._kit.template_role(statement) == "procedure":
            return self._procedures.procedure(statement, about)
        return self._observations.observation(statement, about)

    def _inside(self, statement: Element, roles: tuple[str, ...]) -> list[Element]:
        """Data elements inside one that belong to it."""
        return [inner for _, inner in self._kit.related(statement) if self._row_role(inner) in roles]

    def _row_role(self, statement: Element) -> str:
        row = self._kit.element_row(statement)
        return row["role"] if row is not None else ""

    # --- groups -----------------------------------------------------------------------------------

    def _act(self, statement: Element, role: str, about: About) -> list[Body]:
        """A concern is told by what it is about; any other act that was done is a procedure."""
        if role == "comment":
            return []
        inner = list(self._kit.related(statement))
        if role == "procedure" or (not inner and attribute(first(statement, "code"), "code") and role != "concern"):
            planned = attribute(statement, "moodCode") in PLANNED
            rule = self._procedures.request if planned else self._procedures.procedure
            made = rule(statement, about)
            return [made] if made is not None else []
        status = attribute(first(statement, "statusCode"), "code")
        within = about.within(status=status, denied=self._kit.denied(statement, about))
        found: list[Body] = []
        for _, one in inner:
            found += self.statement(one, within)
        if not inner:
            self._kit.source.lost(statement, "not carried: an act without anything in it")
        return found

    def _organizer(self, statement: Element, role: str, about: About) -> list[Body]:
        members = [inner for _, inner in self._kit.related(statement)]
        template = self._kit.template_role(statement)
        within = about.within(when=self._kit.when(statement, about), role=template or about.role)
        found, rest = self._combined(statement, members, within)
        for one in rest:
            found += self.statement(one, within)
        if template == "result" and (report := self._observations.report(statement, about, found)) is not None:
            return [report]
        return found

    def _combined(self, group: Element, members: list[Element], about: About) -> tuple[list[Body], list[Element]]:
        """What several data elements of a group say together, and the members that are for themselves."""
        roles = [self._row_role(one) for one in members]
        if diagnoses := [one for one, role in zip(members, roles, strict=True) if role in _DIAGNOSIS]:
            return self._diagnoses(diagnoses, about), _without(members, diagnoses)
        allergies = [one for one, role in zip(members, roles, strict=True) if role in _ALLERGY]
        if len(allergies) > 1 and (told := self._conditions.told_allergies(allergies[0], allergies, about)):
            return told, _without(members, allergies)
        if roles.count("item") == 1 and (others := [one for one, role in zip(members, roles, strict=True) if role in _OF_ITEM]):
            item = members[roles.index("item")]
            made = self._observations.observation(item, about, tuple(others))
            return ([made] if made is not None else []), _without(members, [item, *others])
        if "procedure" in roles and "procedure-name" in roles:
            code, name = members[roles.index("procedure")], members[roles.index("procedure-name")]
            made = self._procedures.procedure(code, about, name)
            return ([made] if made is not None else []), _without(members, [code, name])
        return [], members

    def _diagnoses(self, members: list[Element], about: About) -> list[Body]:
        """One Condition for each name and code that follow each other: a second name, or a code of another family (Western, Chinese
        medicine), is another diagnosis."""
        pairs: list[list[Element]] = []
        told: set[str] = set()
        family = ""
        for one in members:
            role, code = self._row_role(one), attribute(first(one, "code"), "code")[:7]
            if not pairs or role in told or code != family:
                pairs.append([])
                told = set()
            family = code
            told.add(role)
            pairs[-1].append(one)
        made = [self._conditions.condition(pair[0], pair, about) for pair in pairs]
        return [one for one in made if one is not None]


def _without(members: list[Element], others: list[Element]) -> list[Element]:
    gone = set(others)
    return [one for one in members if one not in gone]
