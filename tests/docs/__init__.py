"""Tests of the documentation: its links, its commands, and the examples of a command line."""
