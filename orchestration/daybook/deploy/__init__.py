"""What there is of Daybook on AWS only: the bundle that jobs run from, the metrics, the tables that Athena is told of, and
runs as executions of Step Functions.
"""
