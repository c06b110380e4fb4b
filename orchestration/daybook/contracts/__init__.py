"""What a table must hold: Open Data Contract Standard (v3) files in ``params/contracts/``, read and typed."""

from __future__ import annotations

from daybook.contracts.files import (
    LAYERS,
    landing_contract_path,
    layer_folder,
    load_landing,
    load_table,
    load_tables,
    read_contract,
)
from daybook.contracts.model import Property, Quality, RobustZScore, Severity, Sla, Table, TypeOptions

__all__ = [
    "LAYERS",
    "Property",
    "Quality",
    "RobustZScore",
    "Severity",
    "Sla",
    "Table",
    "TypeOptions",
    "landing_contract_path",
    "layer_folder",
    "load_landing",
    "load_table",
    "load_tables",
    "read_contract",
]
