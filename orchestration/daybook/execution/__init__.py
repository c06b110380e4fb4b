"""Execution of stages and runs, on this machine and on AWS."""
