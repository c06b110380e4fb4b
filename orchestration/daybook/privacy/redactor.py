"""Remove personal data from texts, executed notebooks and records.

Content that cannot be searched is replaced by a note. There are two known limits. Text in the pixels of images is not found,
but their metadata is removed. Numbers in records are not searched, since a count may equal an id.
"""

from __future__ import annotations

import base64
import os
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from daybook.contracts.canonical import subject_column
from daybook.privacy.images import strip_metadata
from daybook.privacy.matcher import ValueMatcher
from daybook.privacy.patterns import Hit, find_patterns
from daybook.privacy.secrets import SecretFinder
from daybook.privacy.unescape import decode_all, decode_base64
from daybook.privacy.values import PersonalValues
from daybook.records.mime import IMAGE_TYPES, JSON_TYPES, SVG_TYPE, TEXT_TYPES
from daybook.records.names import RESULT_MIME

if TYPE_CHECKING:  # A slow import, which the search of a text does not need.
    from nbformat import NotebookNode

_PSEUDONYM = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{32}(?![0-9A-Za-z])")
_DATA_URL = re.compile(r"(data:([\w.+-]+/[\w.+-]+)?(?:;[\w-]+=[\w-]+){0,4};base64,)([0-9A-Za-z+/=]+)", re.IGNORECASE)
_LITERAL = re.compile(r"""(['"])((?:[^'"\\\n]|\\.|(?!\1)['"])+)\1""")
"""A string literal on one line of a program."""
_OMITTED_NOTE = "[left out: {} cannot be searched for personal data]"
_REDACTION_MARK = re.compile(r"\[redacted:[^\]\n]+\]")
_SEARCHABLE_TYPES = re.compile(
    r"text/.+|application/(.+\+)?(json|xml)|application/(javascript|x-latex|xhtml\+xml)|image/svg\+xml"
)
"""MIME types of text and JSON in data links, without parameters such as ``; charset=utf-8``."""
_FORMAT_KEYS = ("kernelspec", "language_info", "tags", "output_type", "name", "execution_count")
"""Keys in the metadata of a notebook or cell, or in an output, whose values belong to the notebook format."""
_TRUSTED_KEYS = frozenset(
    re.findall(
        r"\w+",
        "record schema_version run_id run_date until range_id halves env source title currency stage attempt outcome permanent "
        "started_at ended_at seconds usual_seconds rows peak_memory_bytes tables_read tables_written code state_machine engine "
        "python notebook html redactions fingerprint packages cost requests phases table_seconds",
    )
)
"""Keys of a record whose values are Daybook's own. They are never personal, and readers rely on them."""

CustomerKeyLookup = Callable[[Collection[str]], Collection[str]]


class Redactor:
    """Replace the personal data of a run in texts.

    Parameters
    ----------
    values
        Personal values. Without any, only patterns and secrets are found.
    ordinary
        Words that are not hits by themselves, as they are written.
    pseudonyms
        Function that returns the customer keys among tokens of 32 hex digits.

    Attributes
    ----------
    counts
        Number of redacted hits by column.
    """

    def __init__(
        self,
        values: Union[PersonalValues, ValueMatcher, None] = None,
        *,
        ordinary: Collection[str] = (),
        pseudonyms: Optional[CustomerKeyLookup] = None,
    ) -> None:
        self._values = values or PersonalValues()
        self._ordinary = frozenset(ordinary)
        self._pseudonyms = pseudonyms
        self._keys: dict[str, bool] = {}
        self._secrets = SecretFinder(os.environ)
        # Records and notebooks repeat the same texts.
        self._clean: set[tuple[str, bool]] = set()
        self.counts: Counter[str] = Counter()

    def redact_text(self, text: str, *, exactly: bool = False) -> str:
        """Return a text without personal data. ``exactly`` is for source code, where a single word is not a name."""
        if (text, exactly) in self._clean:
            return text
        text = _DATA_URL.sub(self._redact_data_url, text)
        # Of hits in the same position, prefer the name of a landed column to a technical one (_raw).
        hits = sorted(self._find_hits(text, exactly), key=lambda hit: (hit[0], -hit[1], hit[2].startswith("_")))
        if not hits:
            self._clean.add((text, exactly))
            return text
        parts, last = [], 0
        for start, end, column in _merge_hits(hits):
            parts += [text[last:start], f"[redacted:{column}]"]
            self.counts[column] += 1
            last = end
        return "".join([*parts, text[last:]])

    def redact_source(self, text: str) -> str:
        """Return source code without personal data. String literals are searched like any other text."""
        clean = _LITERAL.sub(lambda found: f"{found[1]}{self.redact_text(found[2])}{found[1]}", text)
        return self.redact_text(clean, exactly=True)

    def redact_texts(self, texts: Collection[str]) -> list[str]:
        """Return texts without personal data. One look-up finds the values of all of them."""
        self._prefetch(texts)
        return [self.redact_text(text) for text in texts]

    def search_ahead(self, texts: Iterable[str], *, exactly: bool = False) -> None:
        """Search texts before they are redacted, if all values are in memory. Clean texts are not searched again.

        Texts with a possible customer key are skipped, since a table can have that customer later. Nothing is counted.
        """
        for text in texts:
            skipped = not self._values.in_memory or (text, exactly) in self._clean
            if skipped or _PSEUDONYM.search(text) or _DATA_URL.search(text):
                continue
            if next(self._find_hits(text, exactly), None) is None:
                self._clean.add((text, exactly))
            if exactly:
                self.search_ahead(find_literals(text))

    def _redact_data_url(self, found: re.Match[str]) -> str:
        """Return a base64 data URL with redacted content, or with a note if the content cannot be searched."""
        kind = (found[2] or "text/plain").lower()
        if kind in IMAGE_TYPES:
            image = _strip_image(kind, found[3])
            return f"{found[1]}{image}" if image else f"data:,{_OMITTED_NOTE.format(kind)}"
        content = _decode_content(found[3]) if _SEARCHABLE_TYPES.fullmatch(kind) else None
        if content is None:
            return f"data:,{_OMITTED_NOTE.format(kind)}"
        clean = self.redact_text(content)
        return found[0] if clean == content else found[1] + base64.b64encode(clean.encode()).decode()

    def redact_json(self, node: Any) -> Any:
        """Return JSON without personal data in its texts and keys."""
        self._prefetch(node)
        return self._redact_node(node)

    def _redact_node(self, node: Any, *, untouched: Collection[str] = (), numbers: bool = False) -> Any:
        if isinstance(node, str):
            return self.redact_text(node)
        if isinstance(node, dict):
            clean = type(node)()
            duplicates: Counter[str] = Counter()
            for key, value in node.items():
                unchanged = key in untouched
                new = self.redact_text(key) if isinstance(key, str) and not unchanged else key
                while new in clean:  # Two keys that are equal after redaction stay separate.
                    duplicates[new] += 1
                    new = f"{new} ({duplicates[new] + 1})"
                clean[new] = value if unchanged else self._redact_node(value, numbers=numbers)
            return clean
        if isinstance(node, (list, tuple)):
            return [self._redact_node(each, numbers=numbers) for each in node]
        number = _searchable_number(node) if numbers else None
        if number is not None:
            clean_text = self.redact_text(number)
            return node if clean_text == number else clean_text
        return node

    def redact_record(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return a record without personal data. Daybook's own values stay unchanged."""
        self._prefetch(record)
        return self._redact_record_fields(record)

    def _redact_record_fields(self, record: dict[str, Any]) -> dict[str, Any]:
        clean: dict[str, Any] = {}
        for key, value in record.items():
            if key == "stages":
                clean[key] = [self._redact_record_fields(each) for each in value]
            elif key == "dates" and value:
                clean[key] = {day: self._redact_record_fields(each) for day, each in value.items()}
            elif key == "failure" and value:
                # The exception's class and the cell's first line are source code.
                code = {name: self.redact_source(value[name]) for name in ("exception", "source") if value.get(name)}
                clean[key] = {**self._redact_node(value, untouched=("exception", "source")), **code}
            else:
                clean[key] = value if key in _TRUSTED_KEYS else self._redact_node(value)
        return clean

    def redact_notebook(self, notebook: NotebookNode) -> None:
        """Redact an executed notebook in place: source, outputs, attachments and metadata."""
        self._prefetch([notebook, [find_literals(cell.source) for cell in notebook.cells]])
        notebook.metadata = self._redact_node(notebook.metadata, untouched=_FORMAT_KEYS)
        for cell in notebook.cells:
            injected = "injected-parameters" in cell.metadata.get("tags", [])
            is_text = injected or cell.cell_type != "code"
            cell.source = self.redact_text(cell.source) if is_text else self.redact_source(cell.source)
            cell.metadata = self._redact_node(cell.metadata, untouched=_FORMAT_KEYS)
            if "attachments" in cell:
                cell.attachments = {
                    self.redact_text(name): self._redact_mime_bundle(data) for name, data in cell.attachments.items()
                }
            if "outputs" in cell:
                cell.outputs = [self._redact_output(output) for output in _join_streams(cell.outputs)]

    def _redact_output(self, output: NotebookNode) -> NotebookNode:
        if output.output_type in ("display_data", "execute_result"):
            output.data = self._redact_mime_bundle(output.data)
            output.metadata = self._redact_node(output.metadata)
            return output
        return self._redact_node(output, untouched=_FORMAT_KEYS)  # type: ignore[no-any-return]

    def _redact_mime_bundle(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the redacted representations of an output. A note names those that cannot be searched."""
        clean = type(data)()
        notes: list[str] = []
        for mime, content in data.items():
            if mime == RESULT_MIME and isinstance(content, dict):
                clean[mime] = self._redact_record_fields(content)
            elif mime in (*TEXT_TYPES, *JSON_TYPES, SVG_TYPE):
                clean[mime] = self._redact_node(content, numbers=True)
            elif mime in IMAGE_TYPES and (image := _strip_image(mime, "".join(content))):
                clean[mime] = image
            else:
                notes.append(_OMITTED_NOTE.format(self.redact_text(mime)))
        if notes:
            clean["text/plain"] = "\n".join([*filter(None, ["".join(clean.get("text/plain", ""))]), *notes])
        return clean

    def _find_hits(self, text: str, exactly: bool) -> Iterator[Hit]:
        # Skip marks of an earlier redaction: a column name can equal a personal value.
        marks = [found.span() for found in _REDACTION_MARK.finditer(text)]
        starts = [start for start, _ in marks]
        for reading in decode_all(text):
            for start, end, column in (
                *self._values.find(reading.text, ordinary=self._ordinary, exactly=exactly),
                *find_patterns(reading.text),
                *self._secrets.find(reading.text),
            ):
                span = reading.original_span(start, end)
                mark = bisect_right(starts, span[0]) - 1
                if mark < 0 or span[1] > marks[mark][1]:
                    yield (*span, column)
        self._load_customer_keys([text])
        for key in _PSEUDONYM.finditer(text):
            if self._keys.get(key[0]):
                yield (*key.span(), subject_column())

    def _prefetch(self, node: Any) -> None:
        """Look up the values and customer keys for all texts in JSON at once, since each look-up reads tables."""
        texts = list(extract_texts(node))
        self._load_customer_keys(texts)
        self._values.prefetch(reading.text for text in texts for reading in decode_all(text))

    def _load_customer_keys(self, texts: list[str]) -> None:
        """Look up which tokens in texts are customer keys."""
        if self._pseudonyms is None:
            return
        tokens = {token for text in texts for token in _PSEUDONYM.findall(text)} - self._keys.keys()
        if tokens:
            known = set(self._pseudonyms(tokens))
            self._keys.update({token: token in known for token in tokens})


def withhold_free_text(record: dict[str, Any], error: Exception) -> dict[str, Any]:
    """Return a record of an attempt or run without free text, for use if the search for personal data failed."""
    reason = f"withheld: the search for personal data failed ({type(error).__name__})"
    kept = {key: record[key] if key in _TRUSTED_KEYS else None for key in record}
    kept.update(withheld=type(error).__name__, reasons=[f"{reason}."] if record["reasons"] else [])
    if record["record"] == "run":
        dates = {"dates": record["dates"]} if "dates" in record else {}
        return {**kept, **dates, "stages": record["stages"]}  # Their free text was searched or withheld earlier.
    if "dates" in record:
        kept["dates"] = {day: _withhold_date(each, reason) for day, each in record["dates"].items()}
    details = record["details"]
    kept.update(parameters={}, inputs=[], details={})
    if "run_outcome" in details:
        subject = f"Daybook {record['env']}: {record['run_date']} {details['run_outcome']}"
        kept["details"] = {
            "run_outcome": details["run_outcome"],
            "run_reasons": [f"{reason}."] if details["run_reasons"] else [],
            "message": {"subject": subject, "body": f"{subject}\nThe reasons are {reason}."},
        }
    if record["failure"]:
        kept["failure"] = _withhold_failure(record["failure"], reason)
    return kept


def _withhold_date(result: dict[str, Any], reason: str) -> dict[str, Any]:
    """Return what a stage did for a date of a range, without free text."""
    kept = {key: result[key] for key in ("outcome", "rows") if key in result}
    failure = result.get("failure")
    return {
        **kept,
        **({"reasons": [f"{reason}."]} if result.get("reasons") else {}),
        **({"failure": _withhold_failure(failure, reason)} if failure else {}),
    }


def _withhold_failure(failure: dict[str, Any], reason: str) -> dict[str, Any]:
    exception = failure.get("exception")
    return {
        "index": failure.get("index"),
        "cell": failure.get("cell"),
        "source": None,
        "exception": exception if exception and exception.isidentifier() else None,
        "message": reason,
        "permanent": failure.get("permanent", False),
    }


def _merge_hits(hits: list[Hit]) -> Iterator[Hit]:
    """Merge overlapping hits into one with the column of the longest, so that no part of either remains."""
    start, end, column = hits[0]
    longest = end - start
    for next_start, next_end, next_column in hits[1:]:
        if next_start >= end:
            yield (start, end, column)
            start, end, column, longest = next_start, next_end, next_column, next_end - next_start
            continue
        if next_end - next_start > longest:
            column, longest = next_column, next_end - next_start
        end = max(end, next_end)
    yield (start, end, column)


def _join_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join consecutive outputs of the same stream, since a value can be split between two of them."""
    joined: list[NotebookNode] = []
    for (kind, _), group in groupby(outputs, key=lambda output: (output.output_type, output.get("name"))):
        pieces = list(group)
        if kind == "stream":
            pieces[0].text = "".join(each.text for each in pieces)
            del pieces[1:]
        joined += pieces
    return joined


def find_literals(source: str) -> list[str]:
    """Return the string literals of source code, without quotes."""
    return [found[2] for found in _LITERAL.finditer(source)]


def strip_literals(source: str) -> str:
    """Return source code without its string literals."""
    return _LITERAL.sub(" ", source)


def _decode_content(encoded: str) -> Optional[str]:
    """Return the text in base64; None for other content."""
    try:
        return base64.b64decode(encoded).decode()
    except ValueError:
        return decode_base64(encoded)


def _strip_image(kind: str, encoded: str) -> Optional[str]:
    """Return a base64 image without its metadata; None if it is not a valid image of that kind."""
    try:
        data = base64.b64decode(encoded)
    except ValueError:
        return None
    stripped = strip_metadata(IMAGE_TYPES[kind], data)
    if stripped is None:
        return None
    return encoded if stripped == data else base64.b64encode(stripped).decode()


def _searchable_number(node: Any) -> Optional[str]:
    """Return a whole number that may be an id, as text; None for other nodes."""
    if isinstance(node, bool) or not isinstance(node, (int, float)) or not 9999 < abs(node) < 1e18 or node != int(node):
        return None
    return str(int(node))


def extract_texts(node: Any) -> Iterator[str]:
    """Yield the searched parts of JSON: texts, keys, and numbers that may be ids."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from extract_texts(key)
            yield from extract_texts(value)
    elif isinstance(node, (list, tuple)):
        for each in node:
            yield from extract_texts(each)
    else:
        number = _searchable_number(node)
        if number is not None:
            yield number
