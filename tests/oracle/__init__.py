"""Compute in plain Python what Daybook computes for the demo shop.

Nothing here imports Daybook. A date's run is ``shop.Shop.run``: ``landing`` reads its files, ``texts`` reads values,
``contracts`` judges rows, ``model`` makes silver rows of them, ``sales`` makes gold of silver. Tests compare the two.
"""
