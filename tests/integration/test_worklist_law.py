"""An analyzer asks a running node for its work (IHE LAW): orders come in over MLLP, LAB-27 is answered, LAB-28 follows."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
from pathlib import Path
from queue import Queue
from typing import Any

from adapters.mllp.framing import MllpFramer
from engine.bench.loopback import HOST, free_port
from engine.formats import hl7v2
from tests.support.mllp_line import Line
from tests.support.sites import Site

ORDER = (
    "MSH|^~\\&|HIS|H|LIS|L|20261124080000||OML^O21^OML_O21|{number}|P|2.5.1||||||UNICODE UTF-8\r"
    "PID|1||P1^^^HIS^MR||王^小明||19800101|M\rORC|NW|O{number}\rOBR|1|O{number}||{code}^^L\rSPM|1|S1||SER\r"
)
QUERY = (
    "MSH|^~\\&|ANALYZER|LAB|LIS|H|20261124081500||QBP^Q11^QBP_Q11|{number}|P|2.5.1|||NE|AL||UNICODE UTF-8|||LAB-27^IHE\r"
    "QPD|WOS^Work Order Step^IHE_LABTF|T{number}|{specimen}\rRCP|I||R\r"
)


class Analyzer:
    """Listens for LAB-28 and answers each with ORL^O34; `orders` are what it has heard."""

    def __init__(self) -> None:
        self._socket = socket.create_server((HOST, 0))
        self.port = self._socket.getsockname()[1]
        self.orders: Queue[Any] = Queue()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        framer = MllpFramer()
        with connection:
            while data := connection.recv(65536):
                for frame in framer.feed(data):
                    message = hl7v2.decode(frame.content)
                    self.orders.put(message)
                    head = "MSH|^~\\&|ANALYZER|LAB|LIS|H|20261124||ORL^O34^ORL_O42|1|P|2.5.1"
                    connection.sendall(MllpFramer.wrap(f"{head}\rMSA|AA|{message.get('MSH-10')}\r".encode()))

    def close(self) -> None:
        self._socket.close()


def test_an_analyzer_asks_for_its_work(tmp_path: Path) -> None:
    analyzer, query_port = Analyzer(), free_port()
    tests = tmp_path / "tests.csv"
    tests.write_text("code,to,display,unit\n10,14749-6,Glucose,mmol/L\nK,2823-3,Potassium,mmol/L\n")
    worklist = {"name": "worklist", "worklist": {"tests": "../tests.csv"}}
    site = Site(tmp_path / "site", destinations=[worklist], answer="from worklist")
    asks = {"name": "asks", "source": {"mllp": {"listen": f"{HOST}:{query_port}"}}, "destinations": [worklist], "answer": "from worklist"}
    sends = {"name": "sends", "source": {"worklist": {"poll": "50ms"}},
             "destinations": [{"name": "analyzer", "mllp": {"connect": f"{HOST}:{analyzer.port}"}}]}  # fmt: skip
    for channel in (asks, sends):
        (site.folder / "channels" / f"{channel['name']}.yaml").write_text(json.dumps(channel))
    with site.running(), Line(site.port) as hospital, Line(query_port) as line:
        for number, code in ((1, "14749-6"), (2, "K"), (3, "XYZ")):
            hospital.ask(ORDER.format(number=number, code=code).encode())
        known = line.ask(QUERY.format(number=1, specimen="S1").encode())
        positive = analyzer.orders.get(timeout=60)
        unknown = line.ask(QUERY.format(number=2, specimen="S9").encode())
        negative = analyzer.orders.get(timeout=60)
        again = line.ask(QUERY.format(number=1, specimen="S1").encode())
        repeated = analyzer.orders.get(timeout=60)
        refused = line.ask(QUERY.format(number=3, specimen="").encode())
    analyzer.close()
    assert [hl7v2.decode(one).get("QAK-2") for one in (known, unknown, again)] == ["OK", "NF", "OK"]
    assert hl7v2.decode(known).get("MSA-2") == "1"
    assert [positive.get(f"OBR[{n}]-4.1") for n in (1, 2, 3)] == ["10", "K", None]
    assert positive.get("PID-5.1") == "王"
    assert (negative.get("ORC-1"), negative.get("SAC-3")) == ("DC", "S9")
    assert repeated.get("OBR[1]-4.1") == "10"
    assert hl7v2.decode(refused).get("MSA-1") == "AE"
    asked = site.audited("worklist.asked")
    assert [one["orders"] for one in asked] == ["2", "0", "2"]
    assert "王" not in json.dumps(asked, ensure_ascii=False)


def test_a_query_that_nobody_answers_has_no_information(tmp_path: Path) -> None:
    """At once where the channel has no worklist; where it has one that cannot say anything in time, after `answer_within`."""
    late = tmp_path / "late"
    sites = (
        Site(tmp_path / "none", destinations=[]),
        Site(late, destinations=[{"name": "worklist", "worklist": {}}], answer="from worklist", answer_within="300ms"),
    )
    book = late / "data" / "worklist.db"
    for site in sites:
        with site.running(), Line(site.port) as line:
            held = None
            if site is sites[1]:  # another has the worklist's file locked, and keeps it
                held = sqlite3.connect(book, isolation_level=None)
                held.execute("begin exclusive")
            answer = hl7v2.decode(line.ask(QUERY.format(number=1, specimen="S1").encode()))
            if held is not None:
                held.close()
        assert [answer.get(path) for path in ("MSH-9.1", "MSA-1", "MSA-2", "QAK-1", "QAK-2", "QPD-3")] == [
            "RSP",
            "AA",
            "1",
            "T1",
            "NF",
            "S1",
        ]
