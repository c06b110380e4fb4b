"""Which columns a column comes from: read out of SQL (``sql``), kept in records and walked (``graph``).

Not here: catching the queries of a notebook (``daybook.notebook``), telling other systems (``daybook.openlineage``).
"""
