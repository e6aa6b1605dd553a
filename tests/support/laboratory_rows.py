"""Records of the old laboratory whose rules are in examples/old-laboratory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.formats.rows import Record, write

SITE = Path(__file__).parents[2] / "examples" / "old-laboratory" / "mappings"
ORDER: dict[str, Any] = {
    "order_no": "A1",
    "patient_no": "P1",
    "id_card": "110101199003070097",
    "name": "张三",
    "sex": "男",
    "born": "19900307",
    "phone": "13800000001",
    "doctor": "D07",
    "test_group": "BIO",
    "ordered_at": "2026-01-31T08:00:00",
    "taken_at": "2026-01-31T08:30:00",
    "tube": "T9",
    "reported_at": "2026-01-31T10:00:00",
    "state": "F",
}
GLUCOSE: dict[str, Any] = {"line": 1, "test": "GLU", "test_name": "葡萄糖", "value": "5.10", "unit": "mmol/L", "low": "3.9", "high": "6.1"}
POTASSIUM: dict[str, Any] = {"line": 2, "test": "K", "test_name": "钾", "value": "<0.50", "unit": "mmol/L", "flag": "L", "note": "复查"}
HEPATITIS: dict[str, Any] = {"line": 3, "test": "HBSAG", "test_name": "乙肝表面抗原", "value": "阴性", "unit": None}
UNKNOWN: dict[str, Any] = {"line": 4, "test": "ZZ9", "test_name": "不明", "value": "7", "unit": "furlong"}


def order(*results: dict[str, Any], change: str = "read", table: str = "orders", **columns: Any) -> bytes:
    """One order with its results."""
    row = {**ORDER, **columns}
    return write(Record("lis", table, row, change, {"order_no": row["order_no"]}, details={"results": list(results)}))
