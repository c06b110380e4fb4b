"""Which columns a column comes from: read out of SQL (``sql``), kept in records and walked (``graph``)."""
