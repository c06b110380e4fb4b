"""Whether a deployment is well: one question after the other, each answered in a line with what to do."""
