"""What the county hospital's laboratory measures: panels, reference intervals, and plausible values."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Analyte:
    """One result. `loinc` goes into OBX-3.1, `local` into OBX-3.4; `unit` is UCUM; `women` is their interval where it differs."""

    loinc: str
    name: str
    local: str
    chinese: str
    unit: str
    low: float
    high: float
    decimals: int = 1
    women: tuple[float, float] | None = None

    def interval(self, sex: str) -> tuple[float, float]:
        return self.women if self.women and sex == "F" else (self.low, self.high)


@dataclass(frozen=True, slots=True)
class Panel:
    """What is ordered together. `section` is OBR-24 (table 0074); `tube` is SPM-4 (table 0487)."""

    loinc: str
    name: str
    local: str
    chinese: str
    section: str
    tube: str
    analytes: tuple[Analyte, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """A value with its interval; `flag` is from table 0078 ("" = within the interval)."""

    analyte: Analyte
    value: str
    interval: str
    flag: str


PANELS: Final = (
    Panel(
        "58410-2",
        "CBC panel",
        "XCG",
        "血常规",
        "HM",
        "WB^全血",
        (
            Analyte("6690-2", "Leukocytes", "WBC", "白细胞计数", "10*9/L", 3.5, 9.5, 2),
            Analyte("789-8", "Erythrocytes", "RBC", "红细胞计数", "10*12/L", 4.3, 5.8, 2, (3.8, 5.1)),
            Analyte("718-7", "Hemoglobin", "HGB", "血红蛋白", "g/L", 130, 175, 0, (115, 150)),
            Analyte("4544-3", "Hematocrit", "HCT", "红细胞压积", "%", 40, 50, 1, (35, 45)),
            Analyte("787-2", "MCV", "MCV", "平均红细胞体积", "fL", 82, 100),
            Analyte("785-6", "MCH", "MCH", "平均血红蛋白量", "pg", 27, 34),
            Analyte("786-4", "MCHC", "MCHC", "平均血红蛋白浓度", "g/L", 316, 354, 0),
            Analyte("777-3", "Platelets", "PLT", "血小板计数", "10*9/L", 125, 350, 0),
            Analyte("770-8", "Neutrophils/100 leukocytes", "NEUT", "中性粒细胞百分比", "%", 40, 75),
            Analyte("736-9", "Lymphocytes/100 leukocytes", "LYMPH", "淋巴细胞百分比", "%", 20, 50),
        ),
    ),
    Panel(
        "24326-1",
        "Electrolytes panel",
        "DJZ",
        "电解质",
        "CH",
        "SER^血清",
        (
            Analyte("2823-3", "Potassium", "K", "钾", "mmol/L", 3.5, 5.3, 2),
            Analyte("2951-2", "Sodium", "NA", "钠", "mmol/L", 137, 147),
            Analyte("2075-0", "Chloride", "CL", "氯", "mmol/L", 99, 110),
            Analyte("2000-8", "Calcium", "CA", "钙", "mmol/L", 2.11, 2.52, 2),
        ),
    ),
    Panel(
        "24325-3",
        "Hepatic function panel",
        "GGN",
        "肝功能",
        "CH",
        "SER^血清",
        (
            Analyte("1742-6", "Alanine aminotransferase", "ALT", "丙氨酸氨基转移酶", "U/L", 9, 50, 0, (7, 40)),
            Analyte("1920-8", "Aspartate aminotransferase", "AST", "天门冬氨酸氨基转移酶", "U/L", 15, 40, 0, (13, 35)),
            Analyte("6768-6", "Alkaline phosphatase", "ALP", "碱性磷酸酶", "U/L", 45, 125, 0),
            Analyte("2324-2", "Gamma glutamyl transferase", "GGT", "谷氨酰转肽酶", "U/L", 10, 60, 0, (7, 45)),
            Analyte("14631-6", "Bilirubin.total", "TBIL", "总胆红素", "umol/L", 3.4, 20.5),
            Analyte("2885-2", "Protein", "TP", "总蛋白", "g/L", 65, 85),
            Analyte("1751-7", "Albumin", "ALB", "白蛋白", "g/L", 40, 55),
        ),
    ),
    Panel(
        "14749-6",
        "Glucose",
        "GLU",
        "葡萄糖",
        "CH",
        "PLAS^血浆",
        (Analyte("14749-6", "Glucose", "GLU", "葡萄糖", "mmol/L", 3.9, 6.1, 2),),
    ),
)


def measure(chance: random.Random, analyte: Analyte, sex: str) -> Measurement:
    """A plausible value: three in four lie within the interval, one in forty is critical."""
    low, high = analyte.interval(sex)
    width, luck = high - low, chance.random()
    if luck < 0.75:
        value = chance.uniform(low, high)
    elif luck < 0.975:
        value = chance.choice((low - chance.uniform(0.05, 0.25) * low, high + chance.uniform(0.05, 0.6) * width))
    else:
        value = chance.choice((low * 0.5, high * 1.8))
    value = round(value, analyte.decimals)
    flag = "" if low <= value <= high else ("L" if value < low else "H") * (1 if luck < 0.975 else 2)
    return Measurement(analyte, f"{value:.{analyte.decimals}f}", f"{low:g}-{high:g}", flag)
