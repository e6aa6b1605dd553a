"""What the worklist reads from orders, and what it answers (HL7 v2.5.1 chapter 4, LIS02-A2 clause 11, IHE LAW LAB-27 and LAB-28)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.worklist import astm, law, orders
from adapters.worklist.book import Book
from adapters.worklist.codes import Codes
from adapters.worklist.orders import Order, Patient
from engine.errors import ConfigError, ParseError, ValidationError
from engine.formats import hl7v2
from engine.formats.astm import codec

PID = "PID|1||P1^^^HIS^MR||王^小明||19800101|M"
ORC = "ORC|NW|O1^HIS|||||||20261124080000|||D1^Lee^Kim"
OBR = "OBR|1|O1^HIS||GLU^Glucose^L|S|20261124075900"
SPM = "SPM|1|S1&HIS^L1&LIS||SER|||||||||||||20261124080500"


def hl7(kind: str, *segments: str) -> bytes:
    return "\r".join((f"MSH|^~\\&|HIS|H|LIS|L|20261124080000||{kind}|1|P|2.5.1||||||UNICODE UTF-8", *segments, "")).encode()


def read(kind: str, *segments: str) -> list[Order]:
    return orders.read(hl7(kind, *segments), "utf-8")


def order(number: str = "O1", code: str = "GLU", **facts: Any) -> Order:
    patient = facts.pop("patient", Patient("P1", "HIS", "王", "小明", "19800101", "M"))
    given = {"specimens": ("S1",), "priority": "S", "specimen_type": "SER", **facts}
    return Order(number, number, "", code, "Glucose", "L", patient=patient, **given)


# --- orders ----------------------------------------------------------------------------------------


def test_an_order_with_its_specimen() -> None:
    (found,) = read("OML^O21^OML_O21", PID, ORC, OBR, SPM)
    assert found == Order(
        "O1", "O1", "", "GLU", "Glucose", "L", ("S1", "L1"), "SER", "S", "20261124080000", "20261124080500", "D1^Lee^Kim", False,
        Patient("P1", "HIS", "王", "小明", "19800101", "M"),
    )  # fmt: skip


def test_orders_of_a_specimen_that_stands_before_them() -> None:
    """OML^O33: SPM, SAC, and the orders for it; then the next."""
    second = ("SPM|2|S2||PLAS", "ORC|NW|O3", "OBR|3|O3||PT")
    found = read("OML^O33^OML_O33", PID, SPM, "SAC|||TUBE7", ORC, OBR, "ORC|NW|O2", "OBR|2|O2||K^^L", *second)
    assert [(one.number, one.code, one.specimens, one.specimen_type) for one in found] == [
        ("O1", "GLU", ("S1", "L1", "TUBE7"), "SER"),
        ("O2", "K", ("S1", "L1", "TUBE7"), "SER"),
        ("O3", "PT", ("S2",), "PLAS"),
    ]


def test_an_order_without_a_specimen_is_known_by_its_numbers() -> None:
    """ORM^O01: the label on the tube has the filler's number, or the placer's."""
    (found,) = read("ORM^O01", PID, "ORC|NW|O1|F1", "OBR|1|O1|F1|GLU")
    assert found.specimens == ("F1", "O1")


@pytest.mark.parametrize("control", ["CA", "DC", "OC"])
def test_a_cancellation(control: str) -> None:
    (found,) = read("ORM^O01", PID, ORC.replace("NW", control), OBR)
    assert found.cancelled


def test_a_status_changes_no_order() -> None:
    assert read("ORM^O01", PID, ORC.replace("NW", "SC"), OBR) == []


def test_an_order_without_a_number_is_refused_by_name() -> None:
    with pytest.raises(ValidationError) as caught:
        read("ORM^O01", PID, "ORC|NW", "OBR|1|||GLU")
    assert caught.value.location == "ORC-2"


def test_what_is_no_message() -> None:
    with pytest.raises(ParseError):
        orders.read(b"hello", "utf-8")


# --- the book --------------------------------------------------------------------------------------


@pytest.fixture
def book(tmp_path: Path) -> Any:
    opened = Book(tmp_path / "worklist.db")
    opened.open()
    yield opened
    opened.close()


def test_the_book_finds_by_any_number_of_the_specimen(book: Book) -> None:
    book.keep([order(specimens=("S1", "L1")), order("O2", "K"), order("O3", "NA", specimens=("S9",))], 10, 0)
    assert [one.code for one in book.find("S1", 0, 10)] == ["GLU", "K"]
    assert book.find("L1", 0, 10) == [order(specimens=("S1", "L1"))]
    assert [one.number for one in book.find("", 0, 10)] == ["O1", "O2", "O3"]
    assert book.find("nothing", 0, 10) == []


def test_the_newest_word_on_an_order_holds(book: Book, tmp_path: Path) -> None:
    """A replaced order moves to its new specimen, a cancelled one is gone; another process sees the same."""
    book.keep([order(), order("O2", "K")], 10, 0)
    book.keep([order(specimens=("S5",)), order("O2", "K", cancelled=True)], 20, 0)
    other = Book(tmp_path / "worklist.db")
    other.open()
    assert [one.code for one in other.find("S5", 0, 10)] == ["GLU"]
    assert other.find("S1", 0, 10) == []
    other.close()


def test_what_is_old_is_neither_given_nor_kept(book: Book) -> None:
    book.keep([order()], 10, 0)
    assert book.find("S1", 11, 10) == []
    book.keep([order("O2", "K")], 20, 11)
    assert [one.code for one in book.find("S1", 0, 10)] == ["K"]


def test_what_is_asked_stays_until_it_is_sent(book: Book) -> None:
    book.ask([{"message": "a"}, {"message": "b"}])
    (first, _), (second, content) = book.asked(10)
    book.sent(first)
    assert book.asked(10) == [(second, content)] == [(second, {"message": "b"})]


# --- an instrument's own codes -----------------------------------------------------------------------


def test_codes_of_an_instrument(tmp_path: Path) -> None:
    """LOINC, the code itself, and what a panel is ordered as; what it has no test for is left out."""
    table = tmp_path / "codes.csv"
    table.write_text(
        '# ours\ncode,to,display,unit,ordered_as\n10,14749-6,"Glucose, serum",mmol/L,GLU PANEL\n11,2823-3,Potassium,mmol/L,PANEL\n'
    )
    codes = Codes.read(table)
    assert [code for _, code in codes.of([order()])] == ["10"]
    assert [code for _, code in codes.of([order(code="2823-3"), order(code="11"), order(code="XYZ")])] == ["11", "11"]
    assert [code for _, code in codes.of([order(code="PANEL")])] == ["10", "11"]
    assert [code for _, code in Codes.read(None).of([order(code="XYZ")])] == ["XYZ"]


@pytest.mark.parametrize("text", [None, "test,to\nA,B\n", ""])
def test_a_table_that_cannot_be_used(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "codes.csv").write_text(text)
    with pytest.raises(ConfigError, match=r"codes\.csv"):
        Codes.read(tmp_path / "codes.csv")


# --- ASTM --------------------------------------------------------------------------------------------


def ask(query: str, *known: Order, header: str = "H|\\^&|||Chem800^2|||||LIS||P|LIS2-A2|20261124") -> list[str]:
    """The records of the answer."""
    message = codec.decode(f"{header}\r{query}\rL|1|N\r".encode())
    found = {"": list(known)}
    for one in known:
        for specimen in one.specimens:
            found.setdefault(specimen, []).append(one)
    text, given = astm.answer(message, lambda specimen: found.get(specimen, []), Codes(None), "node", "20261124090000")
    answered = codec.decode(text.encode())
    assert bool(given) == (answered.get("L-3") == "F")
    return text.split("\r")[:-1]


def test_a_specimens_orders() -> None:
    assert ask("Q|1|^S1||^^^ALL", order(), order("O2", "K")) == [
        "H|\\^&|||LIS|||||Chem800||P|LIS2-A2|20261124090000",
        "P|1|P1|||王^小明||19800101|M",
        "O|1|S1||^^^GLU\\^^^K|S||||||N||||SER||||||||||Q",
        "L|1|F",
    ]


@pytest.mark.parametrize("query", ["Q|1|^S1", "Q|1|S1||ALL", "Q|1|P1^S1||^^^GLU"])
def test_ways_to_ask_for_a_specimen(query: str) -> None:
    assert len(ask(query, order())) == 4


def test_nothing_known_is_said() -> None:
    """L-3 is I: no information available from last query."""
    assert ask("Q|1|^S7||ALL", order())[1:] == ["L|1|I"]


def test_only_the_tests_that_were_asked_for() -> None:
    assert ask("Q|1|^S1||^^^K", order(), order("O2", "K"))[2].split("|")[4] == "^^^K"


def test_all_specimens_by_patient() -> None:
    other = Patient("P2", "HIS", "李")
    answer = ask("Q|1|ALL||ALL", order(), order("O2", "K", specimens=("S2",)), order("O3", "K", specimens=("S3",), patient=other))
    assert [line[:4] for line in answer] == ["H|\\^", "P|1|", "O|1|", "O|2|", "P|2|", "O|1|", "L|1|"]


def test_several_specimens_in_one_query() -> None:
    assert sum(line.startswith("O|") for line in ask("Q|1|^S1\\^S2\\^S9||ALL", order(), order("O2", "K", specimens=("S2",)))) == 2


def test_the_answer_has_the_querys_delimiters_and_escapes_them() -> None:
    name = Patient("P1", "", "O@Neil^|", "A\\B")
    answer = ask("Q@1@!S1", order(patient=name), header="H@\\!&@@@GX")
    assert answer[1] == "P@1@P1@@@O&F&Neil^|!A&R&B@@@"


def test_an_abort_asks_for_nothing() -> None:
    assert ask("Q|1|^S1||||||||||A", order())[1:] == ["L|1|I"]


def test_a_query_for_nothing_is_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        ask("Q|1|")
    assert caught.value.location == "Q-3"


# --- LAW ---------------------------------------------------------------------------------------------

QUERY = "QPD|WOS^Work Order Step^IHE_LABTF|T1|S1"


def asked(qpd: str = QUERY) -> dict[str, Any]:
    head = "MSH|^~\\&|ANALYZER|LAB|LIS|H|20261124081500||QBP^Q11^QBP_Q11|Q1|P|2.5.1|||NE|AL||UNICODE UTF-8|||LAB-27^IHE"
    return law.question(f"{head}\r{qpd}\rRCP|I||R\r".encode(), "utf-8")


def test_a_law_query_is_answered_in_its_own_words() -> None:
    message = hl7v2.decode(law.response(asked(), True, "20261124081501", "A1"))
    assert [message.get(path) for path in ("MSH-3", "MSH-5", "MSH-9", "MSH-21", "MSA-1", "MSA-2", "QAK-1", "QAK-2", "QPD-3")] == [
        "LIS", "ANALYZER", "RSP^K11^RSP_K11", "LAB-27^IHE", "AA", "Q1", "T1", "OK", "S1",
    ]  # fmt: skip
    assert hl7v2.decode(law.response(asked(), False, "20261124081501", "A1")).get("QAK-2") == "NF"


@pytest.mark.parametrize(
    "qpd",
    [
        "QPD|WOS^Work Order Step^IHE_LABTF|T1|S1&BARCODE",  # as analyzers have it in SPM-2
        "QPD|INISEQ^^99ROC|T1|S1|50001|1|||SERPLAS^^99ROC|SC^^99ROC|R",
        "QPD|WOS^Work Order Step^IHE_LABTF|T1|S1^|R1|2",
    ],
)
def test_analyzers_own_words_in_a_law_query(qpd: str) -> None:
    """What they add is given back as it came."""
    question = asked(qpd)
    assert question["specimen"] == "S1"
    assert f"\r{qpd}\r".encode() in law.response(question, True, "20261124081501", "A1")


def test_a_work_order_has_a_number_for_each_step() -> None:
    """A panel of two tests becomes two steps of one order."""
    panel = order(code="PANEL")
    message = hl7v2.decode(law.work_order(asked(), [(panel, "10"), (panel, "11"), (order("O2", "K"), "K")], "20261124081501", "A2"))
    assert [segment.name for segment in message.segments] == ["MSH", "PID", "SPM", "SAC", *["ORC", "TQ1", "OBR"] * 3]
    assert [
        (message.get(f"ORC[{n}]-1"), message.get(f"ORC[{n}]-4"), message.get(f"OBR[{n}]-2"), message.get(f"OBR[{n}]-4.1"))
        for n in (1, 2, 3)
    ] == [
        ("NW", "O1", "O1-1", "10"),
        ("NW", "O1", "O1-2", "11"),
        ("NW", "O2", "O2", "K"),
    ]
    assert (message.get("PID-5.1"), message.get("SPM-2"), message.get("SAC-3"), message.get("MSH-21")) == ("王", "S1", "S1", "LAB-28^IHE")


def test_no_work_is_a_negative_work_order() -> None:
    message = hl7v2.decode(law.work_order(asked(), [], "20261124081501", "A2"))
    assert (message.get("ORC-1"), message.get("SAC-3"), message.first("OBR"), message.first("PID")) == ("DC", "S1", None, None)


def test_all_work_is_asked_for_by_name() -> None:
    assert asked("QPD|WOS_ALL^Work Order Step All^IHE_LABTF|T1")["specimen"] == ""
    with pytest.raises(ValidationError) as caught:
        asked("QPD|WOS^Work Order Step^IHE_LABTF|T1")
    assert caught.value.location == "QPD-3"
