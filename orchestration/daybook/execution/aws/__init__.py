"""Runs and backfills as Step Functions executions, their metrics and notifications."""
