"""List the MIME types of outputs and attachments that archived notebooks may hold."""

from __future__ import annotations

from daybook.records.names import RESULT_MIME

JSON_TYPES = ("application/json", RESULT_MIME)
TEXT_TYPES = ("text/html", "text/markdown", "text/latex", "text/plain")
SVG_TYPE = "image/svg+xml"
IMAGE_TYPES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
"""The types of pictures made of pixels, each with the name of its format."""
