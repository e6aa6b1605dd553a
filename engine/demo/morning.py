"""A morning of a county hospital, 07:30 to about noon, as HL7 v2.5 messages. The same seed gives the same bytes.

Three systems send, as they do in such hospitals: the hospital information system (HIS) in GB 18030, the outpatient record (EMR) and
the laboratory (LIS) in UTF-8; and instruments that report by themselves, over ASTM. Everything and everyone is invented.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from hashlib import sha256
from typing import Final, NamedTuple

from engine.demo import instruments
from engine.demo import writing as hl7
from engine.demo.laboratory import PANELS, Panel, measure
from engine.demo.people import TRAPS, Person, person
from engine.demo.writing import EMR, HIS, LIS, System, Visit

OPENING: Final = time(7, 30)
DAY: Final = date(2026, 11, 23)

ACCEPTED: Final = "accepted"
BROKEN: Final = "broken"
DUPLICATE: Final = "duplicate"

_DOCTORS: Final = ("D0101^林^医生", "D0102^何^医生", "D0207^罗^医生", "D0311^高^医生")
_WARDS: Final = ("IM", "SUR", "PED", "CARD")
_COMPLAINTS: Final = (("J18.9", "肺炎"), ("I10", "原发性高血压"), ("E11.9", "2型糖尿病"), ("K35.8", "急性阑尾炎"), ("N20.0", "肾结石"))


@dataclass(frozen=True, slots=True)
class Item:
    """One message to send. `at_seconds` counts from the opening; `kind` is its type (``ADT^A01``), or "" where it cannot be read;
    `note` says in words what it is; `expect` is accepted, broken or duplicate; `system` names who sends it (HIS, EMR, LIS, an instrument).
    `control_id` is how the platform knows it."""

    at_seconds: float
    body: bytes
    kind: str
    note: str
    expect: str
    system: str
    control_id: str = ""
    tls: bool = False


class _Draft(NamedTuple):
    """A message before it has its control id, which its system gives out in the order of sending."""

    at_seconds: float
    system: System
    message_type: str
    note: str
    segments: tuple[str, ...]


def morning(seed: int, patients: int = 12, day: date = DAY) -> list[Item]:
    """What the hospital sends, in order of time. From five patients on it holds every kind of message and every trap
    character in GB 18030."""
    writer = _Morning(random.Random(seed), day)  # noqa: S311  # a story, not a secret
    for number in range(patients):
        writer.patient(number)
    items = _numbered(writer.drafts, seed, day)
    return sorted([*items, *_mishaps(items), *writer.measured, *_broken_off(writer.measured)], key=lambda item: item.at_seconds)


def _numbered(drafts: list[_Draft], seed: int, day: date) -> list[Item]:
    opening, counts, items = datetime.combine(day, OPENING), dict.fromkeys(hl7.SYSTEMS, 0), []
    for draft in sorted(drafts, key=lambda draft: draft.at_seconds):
        system = draft.system
        counts[system] += 1
        control_id = f"{system.name}{seed % 100_000:05d}{counts[system]:06d}"
        at = opening + timedelta(seconds=draft.at_seconds)
        body = hl7.message(system, draft.message_type, control_id, at, draft.segments)
        kind = "^".join(draft.message_type.split("^")[:2])
        items.append(Item(draft.at_seconds, body, kind, draft.note, ACCEPTED, system.name, control_id, system.tls))
    return items


def _mishaps(items: list[Item]) -> list[Item]:
    """What goes wrong on any morning: an answer that got lost, so that its message comes twice; and a message that lost its head."""
    results = [item for item in items if item.kind == "ORU^R01"]
    if not results:
        return []
    first, middle = results[0], results[len(results) // 2]
    again = Item(
        first.at_seconds + 20, first.body, first.kind, "the same result again", DUPLICATE, first.system, first.control_id, first.tls
    )
    headless = middle.body.partition(b"\r")[2]
    return [again, Item(middle.at_seconds + 7, headless, "", "a result without its MSH", BROKEN, LIS.name, tls=LIS.tls)]


def _broken_off(measured: list[Item]) -> list[Item]:
    """An instrument that was switched off in mid-message, and sends all of it later; and one that did not hear our last answer."""
    if len(measured) < 2:
        return []
    first, second = measured[:2]
    half = b"".join(first.body.splitlines(keepends=True)[:4])
    return [
        Item(first.at_seconds - 5, half, "", "a transfer that the instrument broke off", BROKEN, first.system),
        Item(second.at_seconds + 20, second.body, second.kind, "the same specimen again", DUPLICATE, second.system, second.control_id),
    ]


class _Morning:
    """Tells one patient's story after another."""

    def __init__(self, chance: random.Random, day: date) -> None:
        self._chance, self._day = chance, day
        self.drafts: list[_Draft] = []
        self.measured: list[Item] = []
        self._orders = 0

    def _at(self, seconds: float) -> datetime:
        return datetime.combine(self._day, OPENING) + timedelta(seconds=seconds)

    def _later(self, seconds: float, low: int, high: int) -> float:
        """Between `low` and `high` minutes after `seconds`."""
        return seconds + self._chance.uniform(low * 60, high * 60)

    def _say(self, seconds: float, system: System, message_type: str, note: str, *segments: str) -> None:
        self.drafts.append(_Draft(round(seconds, 1), system, message_type, note, segments))

    def _visit(self, number: int, patient_class: str, place: str, seconds: float) -> Visit:
        return Visit(f"V{self._day:%y%m%d}{number:05d}", patient_class, place, self._chance.choice(_DOCTORS), self._at(seconds))

    def _bed(self) -> str:
        return f"{self._chance.choice(_WARDS)}^{self._chance.randint(1, 24):02d}^{self._chance.randint(1, 4)}"

    def patient(self, number: int) -> None:
        """The first five go every way there is, so that even a short morning has everything; the rest as it comes."""
        somebody = person(self._chance, number, self._day)
        begin = self._chance.uniform(0, 90 * 60)
        ways = (self._inpatient, self._inpatient, self._inpatient, self._emergency, self._outpatient)
        way = (
            ways[number]
            if number < len(ways)
            else self._chance.choice((self._outpatient, self._outpatient, self._inpatient, self._emergency))
        )
        way(number, somebody, begin)

    def _inpatient(self, number: int, somebody: Person, begin: float) -> None:
        """Admitted, laboratory, transferred or corrected on the way, discharged."""
        visit = self._visit(number, "I", self._bed(), begin)
        code, text = self._chance.choice(_COMPLAINTS)
        self._admit(somebody, visit, begin, hl7.dg1(code, text, visit.began), *([hl7.al1("青霉素")] if number % 3 == 0 else []))
        done = self._laboratory(HIS, hl7.pid(somebody), somebody, visit, self._later(begin, 5, 20))
        for model in instruments.MODELS:
            self._measure(model, somebody, self._later(begin, 10, 40))
        if number % 2 == 0:
            done = self._later(done, 1, 10)
            before, visit = visit.place, Visit(visit.number, "I", self._bed(), visit.doctor, visit.began)
            moved = (hl7.evn("A02", self._at(done), "N0042"), hl7.pid(somebody), hl7.pv1(visit, before=before))
            self._say(done, HIS, "ADT^A02^ADT_A02", "moved to another bed", *moved)
        done = self._correct(HIS, somebody, visit, self._later(done, 2, 10))
        leave = self._later(done, 30, 60)
        left = (hl7.evn("A03", self._at(leave), "N0042"), hl7.pid(somebody), hl7.pv1(visit, left=self._at(leave)))
        self._say(leave, HIS, "ADT^A03^ADT_A03", "discharged", *left)

    def _outpatient(self, number: int, somebody: Person, begin: float) -> None:
        """Registered, laboratory, and now and then a corrected telephone number."""
        visit = self._visit(number, "O", "OPD^03", begin)
        registered = (hl7.evn("A04", visit.began, "R0007"), hl7.pid(somebody), hl7.pv1(visit))
        self._say(begin, EMR, "ADT^A04^ADT_A01", "registered as an outpatient", *registered)
        done = self._laboratory(EMR, hl7.pid(somebody), somebody, visit, self._later(begin, 5, 25))
        if self._chance.random() < 0.3:
            self._correct(EMR, somebody, visit, self._later(done, 1, 5))

    def _emergency(self, number: int, somebody: Person, begin: float) -> None:
        """Comes nameless under a temporary number; once known, that is merged into the real one, and the patient is admitted."""
        visit = self._visit(number, "E", "ER^01", begin)
        temporary = f"T{900_000 + number}"
        nameless = hl7.unknown_pid(temporary, somebody.sex)
        registered = (hl7.evn("A04", visit.began, "R0007"), nameless, hl7.pv1(visit))
        self._say(begin, HIS, "ADT^A04^ADT_A01", "brought in, nobody knows the name", *registered)
        done = self._laboratory(HIS, nameless, somebody, visit, self._later(begin, 1, 5))
        known = self._later(done, 5, 20)
        merged = (hl7.evn("A40", self._at(known), "R0007"), hl7.pid(somebody), hl7.mrg(temporary))
        self._say(known, HIS, "ADT^A40^ADT_A39", "the nameless patient is identified: records merged", *merged)
        admitted = self._later(known, 2, 10)
        self._admit(somebody, Visit(visit.number, "I", self._bed(), visit.doctor, self._at(admitted)), admitted)

    def _measure(self, model: instruments.Model, somebody: Person, seconds: float) -> None:
        """An instrument reports a specimen itself."""
        number = len(self.measured) + 1
        body = instruments.records(self._chance, model, somebody, f"S{self._day:%y%m%d}{number:04d}", self._at(seconds), str(number))
        known_by = f"{number}-{sha256(body).hexdigest()[:16]}"
        self.measured.append(Item(round(seconds, 1), body, "ASTM^R", f"measured by {model.name}", ACCEPTED, model.name, known_by))

    def _admit(self, somebody: Person, visit: Visit, seconds: float, *more: str) -> None:
        allergies = [one for one in more if one.startswith("AL1")]
        diagnoses = [one for one in more if one.startswith("DG1")]
        head = (hl7.evn("A01", self._at(seconds), "R0003"), hl7.pid(somebody), hl7.nk1(somebody), hl7.pv1(visit))
        trap = any(character in somebody.given for character in TRAPS)
        note = "admitted" + (" (a name whose bytes look like separators)" if trap else "")
        self._say(seconds, HIS, "ADT^A01^ADT_A01", note, *head, *allergies, *diagnoses)

    def _correct(self, system: System, somebody: Person, visit: Visit, seconds: float) -> float:
        pid = hl7.pid(somebody, phone=f"000{self._chance.randint(0, 99_999_999):08d}")
        corrected = (hl7.evn("A08", self._at(seconds), "R0007"), pid, hl7.pv1(visit))
        self._say(seconds, system, "ADT^A08^ADT_A01", "telephone number corrected", *corrected)
        return seconds

    def _laboratory(self, system: System, pid: str, somebody: Person, visit: Visit, begin: float) -> float:
        """One to three panels, each ordered at once and reported when it is ready; gives when the last was."""
        last = begin
        for panel in self._chance.sample(PANELS, self._chance.randint(1, 3)):
            self._orders += 1
            placer, filler = f"P{self._day:%y%m%d}{self._orders:05d}", f"F{self._day:%y%m%d}{self._orders:05d}"
            self._order(system, pid, panel, placer, visit, begin)
            ready = self._later(begin, 20, 55)
            self._report(pid, somebody, panel, (placer, filler), visit, begin, ready)
            last = max(last, ready)
        return last

    def _order(self, system: System, pid: str, panel: Panel, placer: str, visit: Visit, begin: float) -> None:
        """The HIS orders with ORM, the newer outpatient record with OML."""
        at = self._at(begin)
        segments = (pid, hl7.pv1(visit), hl7.orc("NW", placer, "", at, visit.doctor), hl7.obr(panel, placer, "", at, visit.doctor))
        kind = "ORM^O01^ORM_O01" if system is HIS else "OML^O21^OML_O21"
        self._say(begin, system, kind, f"ordered: {panel.name}", *segments)

    def _report(self, pid: str, somebody: Person, panel: Panel, numbers: tuple[str, str], visit: Visit, taken: float, ready: float) -> None:
        placer, filler = numbers
        at, collected = self._at(ready), self._at(taken + 300)
        results, critical = [], False
        for index, analyte in enumerate(panel.analytes, start=1):
            measured = measure(self._chance, analyte, somebody.sex)
            results.append(hl7.obx(index, measured, at))
            if len(measured.flag) == 2:
                critical = True
                results.append(hl7.nte(1, f"危急值，已电话通知{visit.doctor.split('^')[1]}医生\\.br\\请立即处理"))
        if panel.section == "HM":
            text = "红细胞形态大致正常，未见明显异常细胞。"
            results.append(hl7.obx_text(len(panel.analytes) + 1, "18314-5^Morphology^LN^XT^形态学描述^L", text, at))
        head = (
            hl7.orc("RE", placer, filler, at, visit.doctor),
            hl7.obr(panel, placer, filler, collected, visit.doctor, reported=at),
            *([hl7.nte(1, "标本轻度溶血，请结合临床")] if self._chance.random() < 0.15 else []),
        )
        note = f"result: {panel.name}" + (", critical" if critical else "")
        self._say(ready, LIS, "ORU^R01^ORU_R01", note, pid, hl7.pv1(visit), *head, *results, hl7.spm(panel, filler, collected))
