"""Whether a deployment is well: one question after the other, each answered in a line with what to do.

Not here: mending anything (``daybook deploy``), whether dates are missing (``daybook gaps``).
"""
