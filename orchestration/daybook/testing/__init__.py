"""Test the SQL cells of notebooks: given rows of their inputs, expected rows of a table."""
