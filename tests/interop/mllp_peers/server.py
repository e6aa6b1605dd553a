"""python-hl7's asyncio server answers by the beginning of the control id: AE and AR are refused so, DROP loses its connection the first
time, HALF half of its answer. Tells {"port"}, then {"control_id", "family", "line"} for each message, `line` counting connections.

Argument: {encoding}. Ends with its standard input.
"""

import asyncio
import json
import sys
from itertools import count

from hl7.mllp import start_hl7_server

asked = json.loads(sys.argv[1])
lines = count(1)
lost: set[str] = set()


def say(**said: object) -> None:
    print(json.dumps(said), flush=True)


async def serve(reader, writer) -> None:
    line = next(lines)
    try:
        while not reader.at_eof():
            message = await reader.readmessage()
            control_id = str(message.segment("MSH")[10])
            say(control_id=control_id, family=str(message["PID.F5.R1.C1"]), line=line)
            code = control_id[:2] if control_id[:2] in ("AE", "AR") else "AA"
            answer = str(message.create_ack(code)).encode(asked["encoding"])
            if control_id.startswith(("DROP", "HALF")) and control_id not in lost:
                lost.add(control_id)
                if control_id.startswith("HALF"):
                    writer.write(b"\x0b" + answer[: len(answer) // 2])
                break
            writer.writeblock(answer)
            await writer.drain()
    except asyncio.IncompleteReadError:
        pass
    writer.close()


async def main() -> None:
    server = await start_hl7_server(serve, "127.0.0.1", 0, encoding=asked["encoding"])
    say(port=server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
