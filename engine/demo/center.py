"""A township health center that has no interface but files: its follow-up visits as CSV, put on the hospital's SFTP server by asyncssh.

What goes wrong on any morning is in it: a row that lost a column, and a file of which only half came, so that all of it comes again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from engine.demo.interactions import Inpatient
from engine.demo.morning import DAY, OPENING

NAME: Final = "township-center"
CHANNEL: Final = "township-center"
ORIGIN: Final = "TOWNSHIP"
RULES: Final = Path(__file__).parent / "rows" / "follow-ups.yaml"
"""The mapping's rules of the hospital."""
_ENCODING: Final = "gb18030"
_HEADING: Final = "随访号,病案号,姓名,收缩压,舒张压,随访时间"
_FILES: Final = 2


@dataclass(frozen=True, slots=True)
class FollowUp:
    """One row of a file. `good` is whether it can be read."""

    number: str
    line: str
    good: bool = True


class Center:
    """Puts its files in a thread of its own. `key` is its private key, `host_key` the server's public key, both files of OpenSSH."""

    def __init__(self, people: Sequence[Inpatient], seed: int, port: int, key: Path, host_key: Path) -> None:
        chance = random.Random(seed)  # noqa: S311  # a story, not a secret
        self._port, self._key, self._host_key = port, key, host_key
        rows = [_row(number, people[number % len(people)], chance) for number in range(1, 4 * _FILES + 1)]
        rows[3] = FollowUp(rows[3].number, rows[3].line.rpartition(",")[0], good=False)
        self.files = {f"follow-ups-{DAY:%Y%m%d}-{part + 1}.csv": rows[part::_FILES] for part in range(_FILES)}

    @property
    def good(self) -> list[str]:
        """What must arrive, as the platform knows it."""
        return [known_as(row.number) for rows in self.files.values() for row in rows if row.good]

    @property
    def rows(self) -> int:
        """How many rows there are, bad ones included."""
        return sum(map(len, self.files.values()))

    def run(self) -> None:
        """Each file under another name first, as its clients do; at first only half of it."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        import asyncssh

        trusted = asyncssh.import_known_hosts(f"[127.0.0.1]:{self._port} {self._host_key.read_text()}")
        for name, rows in self.files.items():
            content = "\r\n".join([_HEADING, *(row.line for row in rows), ""]).encode(_ENCODING)
            for sent in (content[: len(content) // 2], content):
                async with (
                    asyncssh.connect(
                        "127.0.0.1", self._port, username=NAME, client_keys=[str(self._key)], known_hosts=trusted, config=None
                    ) as connection,
                    connection.start_sftp_client() as client,
                ):
                    async with client.open(f"{name}.part", "wb") as file:
                        await file.write(sent)
                    if sent is content:
                        await client.rename(f"{name}.part", name)


def make_key(file: Path) -> str:
    """A new private key in OpenSSH's form; gives its public key, one line. FILE.pub holds that too."""
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519")
    file.parent.mkdir(parents=True, exist_ok=True)
    key.write_private_key(str(file))
    file.chmod(0o600)
    key.write_public_key(f"{file}.pub")
    return key.export_public_key().decode().strip()


def known_as(number: str) -> str:
    """How the platform knows the row: whose it is, its table, its key."""
    return f"{ORIGIN} follow-ups 随访号={number}"


def _row(number: int, one: Inpatient, chance: random.Random) -> FollowUp:
    at = datetime.combine(DAY, OPENING) + timedelta(minutes=7 * number)
    systolic, difference = chance.randint(105, 168), chance.randint(35, 55)
    cells = (f"F{DAY:%y%m%d}{number:03d}", one.record_number, one.name, systolic, systolic - difference, f"{at:%Y-%m-%d %H:%M:%S}")
    return FollowUp(str(cells[0]), ",".join(map(str, cells)))
