"""python-hl7's asyncio client: sends each message, reads its acknowledgment as a Message, tells {"code", "control_id", "charset"} a line.

Argument: {port, encoding, messages, tls: {ca, cert, key}}; `pipelined` sends all before it reads anything.
"""

import asyncio
import json
import ssl
import sys

from hl7 import parse
from hl7.mllp import open_hl7_connection

asked = json.loads(sys.argv[1])


def secure() -> ssl.SSLContext | None:
    if "tls" not in asked:
        return None
    files = asked["tls"]
    context = ssl.create_default_context(cafile=files["ca"])
    context.load_cert_chain(files["cert"], files["key"])
    return context


async def main() -> None:
    reader, writer = await open_hl7_connection(
        "localhost" if "tls" in asked else "127.0.0.1", asked["port"], encoding=asked["encoding"], ssl=secure()
    )
    unread = 0
    for text in asked["messages"]:
        writer.writemessage(parse(text))
        await writer.drain()
        unread += 1
        while unread and not asked.get("pipelined"):
            await tell(reader)
            unread -= 1
    for _ in range(unread):
        await tell(reader)
    writer.close()
    await writer.wait_closed()


async def tell(reader) -> None:
    answer = await reader.readmessage()
    msa = answer.segment("MSA")
    charset = str(answer["MSH"][0][18]) if len(answer["MSH"][0]) > 18 else ""
    print(json.dumps({"code": str(msa[1]), "control_id": str(msa[2]), "charset": charset}), flush=True)


asyncio.run(main())
