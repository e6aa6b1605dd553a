"""stand-in until engine.formats.fhir is there"""
import json
from typing import Any
import orjson
from engine.errors import ParseError
def _pairs(p):
    d=dict(p)
    if len(d)!=len(p): raise ParseError("duplicate key")
    return d
_dec=json.JSONDecoder(object_pairs_hook=_pairs,parse_float=orjson.Fragment)
def parse(body: bytes) -> dict[str, Any]:
    try:
        r=_dec.decode(body.decode())
    except (ValueError, RecursionError) as e:
        raise ParseError("not JSON") from e
    if not isinstance(r,dict): raise ParseError("not an object")
    return r
def dump(d) -> bytes:
    return orjson.dumps(d)
