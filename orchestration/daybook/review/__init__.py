"""Show what a change does: differences between versions of tables, of numbers and of notebooks."""
