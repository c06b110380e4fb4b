"""What a table must hold: Open Data Contract Standard (v3) files in ``params/contracts/``, read and typed."""

from __future__ import annotations

from daybook.contracts.files import LAYERS, load_landing, load_table, load_tables, read_contract
from daybook.contracts.model import Property, Table

__all__ = ["LAYERS", "Property", "Table", "load_landing", "load_table", "load_tables", "read_contract"]
