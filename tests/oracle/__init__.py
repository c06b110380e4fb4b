"""Compute in plain Python what Daybook computes for the demo shop.

Nothing here imports Daybook. ``shop.Shop.run`` runs a date: ``landing`` reads its files, ``texts`` parses values,
``contracts`` checks rows, ``model`` builds silver rows, ``sales`` builds gold. Tests compare the two.
"""
