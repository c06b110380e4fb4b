"""Column lineage: read from SQL (``sql``), stored in records and traced from gold to bronze (``graph``)."""
