"""Compute in plain Python what Daybook computes for the demo shop, so that tests can compare both.

These modules do not import Daybook. ``shop.Shop.run`` runs a date: ``landing`` reads files, ``texts`` parses values,
``contracts`` checks rows, ``model`` maps them to silver, ``sales`` computes gold.
"""
