"""Daybook on AWS: what jobs there run from."""
