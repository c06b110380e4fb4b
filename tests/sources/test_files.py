"""Test which landing files belong to a date, that texts are read unchanged, and the errors of broken files."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import threading
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybook.errors import LandingError
from daybook.sources import Column, Entity, Source, load_source
from daybook.sources.files import find_files, is_entity_file, mark_files, require_unchanged
from daybook.storage import Store
from tests.reading import read_entity

DAY = date(2025, 11, 30)
TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=12)


# Files of a date


@pytest.fixture
def landing(tmp_path):
    for name in (
        "all.csv",
        "2025-11-29.csv",
        "2025-11-30.csv",
        "orders/2025-11-30/part-2.csv",
        "orders/2025-11-30/part-1.csv",
        "orders/2025-11-30/part-1.csv.done",
        "orders/2025-11-30/late/part-3.csv",
        "orders/2025-11-300/part-9.csv",
        "shop-1/2025-11-30.csv",
        "shop-2/2025-11-30.csv",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"a\n{name}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ("all.csv", ["all.csv"]),
        ("{run_date}.csv", ["2025-11-30.csv"]),
        ("none/{run_date}.csv", []),
        ("orders", []),
        ("orders/{run_date}/*.csv", ["orders/2025-11-30/part-1.csv", "orders/2025-11-30/part-2.csv"]),
        ("orders/{run_date}/part-[2-9].csv", ["orders/2025-11-30/part-2.csv"]),
        ("*/{run_date}.csv", ["shop-1/2025-11-30.csv", "shop-2/2025-11-30.csv"]),
        ("shop-?/{run_date}.csv", ["shop-1/2025-11-30.csv", "shop-2/2025-11-30.csv"]),
        ("none/*.csv", []),
        ("{run_date:%Y-%m-%d}.csv", ["2025-11-30.csv"]),
        ("orders/{run_date:%Y}-{run_date:%m-%d}/part-1.csv", ["orders/2025-11-30/part-1.csv"]),
        ("shop-?/{run_date:%Y-%m}-*.csv", ["shop-1/2025-11-30.csv", "shop-2/2025-11-30.csv"]),
    ],
)
def test_pattern_finds_the_files_of_the_date(landing, files, found):
    assert find_files(Store(str(landing)), Entity(files=files, columns={"a": Column()}), DAY) == found


@given(run_date=st.dates(date(1000, 1, 1)), form=st.lists(st.sampled_from(["%Y", "%y", "%m", "%d", "%j", "%%", "-", "a"])))
def test_date_format_is_that_of_strftime(run_date, form):
    text = "%b" + "".join(form)
    entity = Entity(files=f"a/{{run_date:{text}}}_{{run_date}}.csv", columns={"a": Column()})
    assert is_entity_file(entity, run_date, f"a/{run_date.strftime(text)}_{run_date.isoformat()}.csv")


def test_files_of_a_day_are_one_table_with_row_numbers(landing, shop):
    shop["entities"]["orders"] = {"files": "orders/{run_date}/*.csv", "columns": {"a": {}, "id": {}}}
    (landing / "orders/2025-11-30/part-1.csv").write_text("a,id\n1,x\n2,y\n")
    (landing / "orders/2025-11-30/part-2.csv").write_text("id,extra,a\nz,more,3\n")
    table, files = read_entity(Store(str(landing)), Source.model_validate(shop), "orders", DAY)
    assert table.select(["a", "id", "extra", "_source_file", "_row_number"]).to_pylist() == [
        {"a": "1", "id": "x", "extra": None, "_source_file": "orders/2025-11-30/part-1.csv", "_row_number": 1},
        {"a": "2", "id": "y", "extra": None, "_source_file": "orders/2025-11-30/part-1.csv", "_row_number": 2},
        {"a": "3", "id": "z", "extra": "more", "_source_file": "orders/2025-11-30/part-2.csv", "_row_number": 1},
    ]
    assert [(each.file, each.rows) for each in files] == [
        ("orders/2025-11-30/part-1.csv", 2),
        ("orders/2025-11-30/part-2.csv", 1),
    ]


def test_file_is_recorded_as_stored(landing, shop):
    shop["entities"]["orders"]["files"] = "orders.csv.gz"
    data = gzip.compress(b"id,person,at,state\n1,2,3,4\n")
    (landing / "orders.csv.gz").write_bytes(data)
    _, (file,) = read_entity(Store(str(landing)), Source.model_validate(shop), "orders", DAY)
    assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_entity_without_a_file_has_no_table(landing, shop):
    assert read_entity(Store(str(landing)), Source.model_validate(shop), "orders", DAY) == (None, [])


def test_error_names_the_address_of_a_broken_file(landing, shop):
    (landing / "orders/2025-11-30.csv").write_text("")
    with pytest.raises(LandingError) as caught:
        read_entity(Store(str(landing)), Source.model_validate(shop), "orders", DAY)
    assert str(caught.value) == (
        f"{landing}/orders/2025-11-30.csv, line 1: the file is empty, without even a header; deliver it again."
    )


# Texts


@given(
    rows=st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(TEXTS, min_size=width, max_size=width), max_size=6)),
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_any_texts_are_read_back_exactly(read, rows, delimiter, quoting):
    columns = ("a", "b", "c", "d")[: len(rows[0]) if rows else 1]
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, quoting=quoting).writerows([columns, *rows])
    table = read(file.getvalue(), columns=columns, delimiter=delimiter)
    assert [list(row) for row in zip(*(table[name].to_pylist() for name in columns))] == rows
    assert table["_row_number"].to_pylist() == list(range(1, len(rows) + 1))
    assert set(table["_problem"].to_pylist()) <= {None}


@given(body=st.binary(max_size=40), encoding=st.sampled_from(["utf-8", "windows-1252", "utf-16"]))
def test_any_bytes_are_numbered_rows_or_an_error(read, body, encoding):
    header = "a,b\n".encode(encoding)
    try:
        table = read(header + body, encoding=encoding)
    except LandingError as error:
        assert str(error).startswith("landing/e.csv")
    else:
        assert sorted(table["_row_number"].to_pylist()) == list(range(1, table.num_rows + 1))


@pytest.mark.parametrize(
    "text", ["NULL", "NaN", "N/A", "", " x ", "007", "1e3", "true", "2025-11-30", "x\u0085y\u2028z", "'; --"]
)
def test_values_are_not_interpreted(rows, text):
    assert rows(f"a,b\n{text},2\n") == [(text, "2")]


def test_byte_order_mark_is_not_part_of_the_header(rows):
    assert rows(b"\xef\xbb\xbfa,b\n1,2\n") == [("1", "2")]


def test_byte_order_mark_before_a_quoted_header_is_removed(rows):
    assert rows(b'\xef\xbb\xbf"a","b"\n1,2\n') == [("1", "2")]


def test_windows_1252_is_read_when_declared(rows):
    assert rows("a,b\n£,€\n".encode("windows-1252"), encoding="windows-1252") == [("£", "€")]


def test_encodings_are_tried_in_order(rows):
    either = ["utf-8", "windows-1252"]
    assert rows("a,b\n£,2\n".encode(), encoding=either) == [("£", "2")]
    assert rows("a,b\n£,2\n".encode("windows-1252"), encoding=either) == [("£", "2")]


def test_utf_16_is_read_when_declared(rows):
    assert rows("a,b\né,2\n".encode("utf-16"), encoding="utf-16") == [("é", "2")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_ends_a_row(rows, end):
    assert rows(end.join(["a,b", "1,2", "3,4"])) == [("1", "2"), ("3", "4")]


def test_quoted_line_break_is_part_of_one_row(read):
    table = read('a,b\r\n"x\r\ny",2\r\n3,4\r\n')
    assert table["a"].to_pylist() == ["x\r\ny", "3"]
    assert table["_row_number"].to_pylist() == [1, 2]


def test_semicolon_can_be_the_delimiter(rows):
    assert rows("a;b\n1,5;2\n", delimiter=";") == [("1,5", "2")]


def test_gzipped_file_is_read(rows):
    assert rows(gzip.compress(b"a,b\n1,2\n"), key="e.csv.gz") == [("1", "2")]


@pytest.mark.parametrize("key", ["e.csv.GZ", "e.csv", "e.gz", "e"])
def test_gzip_is_detected_by_content(rows, key):
    assert rows(gzip.compress(b"a,b\n1,2\n"), key=key) == [("1", "2")]


def test_plain_file_named_gz_is_read(rows):
    assert rows("a,b\n1,2\n", key="e.csv.gz") == [("1", "2")]


@pytest.mark.parametrize("text", ["a,b", "a,b\n", "a,b\r\n", "\ufeffa,b"])
def test_file_with_only_a_header_has_no_rows(read, text):
    table = read(text)
    assert (table.num_rows, table.column_names[:2]) == (0, ["a", "b"])


def test_undeclared_columns_are_read(read):
    assert read("b,extra,a\n1,2,3\n")["extra"].to_pylist() == ["2"]


def test_quotes_in_a_column_name_are_kept(rows):
    assert rows('"it\'s","5"" nail"\n1,2\n', columns=("it's", '5" nail')) == [("1", "2")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ('5" nail', '5" nail'),
        ('nail 5"', 'nail 5"'),
        ('say "hi"', 'say "hi"'),
        (' "x"', ' "x"'),
        ('"5"" nail"', '5" nail'),
        ('"5" nail', "5 nail"),
        ('"5" nail"', '5 nail"'),
    ],
)
def test_stray_quote_affects_its_field_only(rows, field, value):
    assert rows(f"a,b\n{field},2\n1,{field}\n3,4\n") == [(value, "2"), ("1", value), ("3", "4")]


# Rows with a wrong number of fields


def test_rows_with_a_wrong_number_of_fields_are_kept(read):
    table = read('a,b\n1,2\n3\n4,5\n"6\n6",7,8\n9,10\n').sort_by("_row_number")
    assert table["_row_number"].to_pylist() == [1, 2, 3, 4, 5]
    assert table["a"].to_pylist() == ["1", "", "4", "", "9"]
    assert table["_problem"].to_pylist() == [
        None,
        "1 fields where the header has 2",
        None,
        "3 fields where the header has 2",
        None,
    ]
    assert table["_raw"].to_pylist() == [None, "3", None, '"6\n6",7,8', None]


def test_file_with_broken_rows_only_is_kept(read):
    table = read("a,b\n1\n2\n")
    assert (table["_raw"].to_pylist(), table["_row_number"].to_pylist()) == (["1", "2"], [1, 2])


def test_empty_lines_are_not_rows(read):
    table = read("a,b\n\n1,2\n\n\n3\n\n4,5\n").sort_by("_row_number")
    assert list(zip(table["a"].to_pylist(), table["_row_number"].to_pylist())) == [("1", 1), ("", 2), ("4", 3)]


# Files that cannot be read


@pytest.mark.parametrize("data", [b"", b"\n\r\n", b"\xef\xbb\xbf"])
def test_empty_file_is_an_error(refusal, data):
    assert refusal(data) == "landing/e.csv, line 1: the file is empty, without even a header; deliver it again."


def test_undecodable_byte_is_reported_with_its_line(refusal):
    assert refusal("a,b\n1,2\n£,3\n".encode("windows-1252")) == (
        "landing/e.csv, line 3: byte 0xa3 is not utf-8; declare the file's encoding in the source's YAML, or deliver the file "
        "again."
    )


def test_nul_is_reported_with_its_line(refusal):
    assert refusal("a,b\n1,2\n\x00,3\n") == (
        "landing/e.csv, line 3: a NUL character, so it is hardly utf-8 text; declare the file's encoding in the source's YAML, "
        "or deliver the file again."
    )


def test_missing_column_lists_the_header(refusal):
    assert refusal("a,c\n1,2\n") == (
        "landing/e.csv, line 1: column 'b' of entity 'e' is missing (the header has: a, c); deliver the file again, or change "
        "the source's YAML."
    )


def test_error_does_not_show_a_first_line_of_data(refusal):
    assert refusal("17,Anna\n18,Bo\n") == (
        "landing/e.csv, line 1: column 'a' of entity 'e' is missing (the first line has 2 fields, none of them a declared "
        "column); deliver the file again, or change the source's YAML."
    )


@pytest.mark.parametrize("header", ["a,b,a", "a,b,A", "a,b, a", "a,b,\u00a0A\t"])
def test_duplicate_column_is_an_error(refusal, header):
    assert refusal(f"{header}\n1,2,3\n") == (
        "landing/e.csv, line 1: column 'a' appears twice in the header; deliver the file again."
    )


@pytest.mark.parametrize("header", ["A,b", " a , b", "B,A", 'a,"b "'])
def test_header_in_another_spelling_is_read(read, header):
    table = read(f"{header}\n1,2\n")
    assert table.num_rows == 1 and [each.strip().lower() for each in table.column_names[:2]] in (["a", "b"], ["b", "a"])


@pytest.mark.parametrize("name", ["_row_number", "run_date", "Run_Date", "_Problem", " _x", "RUN_DATE "])
def test_reserved_column_name_is_an_error(refusal, name):
    assert refusal(f"a,b,{name}\n1,2,3\n") == (
        f"landing/e.csv, line 1: column {name!r} has a name that is Daybook's own; rename it at the source."
    )


def test_header_with_an_open_quote_is_an_error(refusal):
    assert refusal('a,"b\n1,2\n') == (
        "landing/e.csv, line 1: the header cannot be read (unexpected end of data); deliver the file again."
    )


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ('1,2\n3,"4\n5,6\n', 3),
        ('1,2\n3,"4\n5\n', 3),  # swallows the rest, and has two fields
        ('1,2\n3,"4', 3),
        ('1,5" nail\n3,"4\n5,6\n', 3),  # an even number of quotes
        ('"1\n1","2\n3,4\n', 3),  # after a sound quoted line break in the same row
        ('1,"2\n3,4\n5,"6"\n7,8\n', 2),  # ends at the next opening quote, and has two fields
        ('1,"2\r\n3,4\r\n5,"6"\r\n', 2),
    ],
)
def test_open_quote_is_reported_with_its_line(refusal, body, line):
    assert refusal(f"a,b\n{body}") == (
        f"landing/e.csv, line {line}: a quoted field that begins here is never closed; deliver the file again."
    )


def _spoiled(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


WHOLE = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(500)))


@pytest.mark.parametrize(
    "data",
    [WHOLE[:-5], WHOLE[: len(WHOLE) // 2], _spoiled(WHOLE, 12), _spoiled(WHOLE, len(WHOLE) // 2)],
    ids=["end cut off", "half", "spoiled at its beginning", "spoiled in its middle"],
)
def test_damaged_gzip_file_is_an_error(refusal, data):
    told = refusal(data, key="e.csv.gz")
    assert told.startswith("landing/e.csv.gz: not a whole gzip file (")
    assert told.endswith("); deliver it again.")


# Real shops


@pytest.mark.parametrize("name", list(load_source("olist").entities))
def test_olist_files_equal_the_csv_modules_reading(shared_data, name):
    source = load_source("olist")
    table, (file,) = read_entity(Store(str(shared_data / "olist")), source, name, DAY)
    with (shared_data / "olist" / file.file).open(encoding="utf-8-sig", newline="") as text:
        header, *expected = csv.reader(text)
    assert list(zip(*(table[column].to_pylist() for column in header))) == [tuple(row) for row in expected]


def test_online_retail_equals_the_csv_modules_reading(shared_data):
    table, (file,) = read_entity(
        Store(str(shared_data / "online_retail")), load_source("online_retail"), "invoices", date(2010, 12, 1)
    )
    text = (shared_data / "online_retail" / file.file).read_bytes()
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError:
        decoded = text.decode("windows-1252")
    header, *expected = csv.reader(io.StringIO(decoded, newline=""))
    assert list(zip(*(table[column].to_pylist() for column in header))) == [tuple(row) for row in expected]


# A file that changes while it is read


class Restless(Store):
    """A landing that calls functions just before or after a file is read."""

    def __init__(self, uri, *, before=None, after=None):
        super().__init__(uri)
        self.before, self.after = before or {}, after or {}

    def read_with_version_tag(self, key):
        self.before.pop(key, lambda: None)()
        found = super().read_with_version_tag(key)
        self.after.pop(key, lambda: None)()
        return found


@pytest.fixture
def parts(tmp_path, shop):
    """Return a source with an entity of two files, and their folder."""
    shop["entities"]["orders"] = {"files": "{run_date}/*.csv", "columns": {"a": {}}}
    folder = tmp_path / "2025-11-30"
    folder.mkdir()
    (folder / "1.csv").write_text("a\n1\n")
    (folder / "2.csv").write_text("a\n2\n")
    return Source.model_validate(shop), folder


def again(folder, name, text):
    """Replace a file by another one of the same name."""
    draft = folder / "draft"
    draft.write_text(text)
    draft.replace(folder / name)


CHANGES = {
    "written on": lambda folder, name: (folder / name).open("a").write("9\n"),
    "cut short": lambda folder, name: (folder / name).write_text("a\n"),
    "delivered again, of the same size": lambda folder, name: again(folder, name, "a\n7\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("name", "reading"), [("1.csv", "1.csv"), ("2.csv", "1.csv"), ("1.csv", "2.csv"), ("2.csv", "2.csv")])
def test_file_that_changes_while_it_is_read_is_an_error(parts, change, when, name, reading):
    source, folder = parts
    happening = {f"2025-11-30/{reading}": lambda: change(folder, name)}
    store = Restless(str(folder.parent), **{when: happening})
    with pytest.raises(LandingError, match=rf"2025-11-30/{name} changed while it was being read; deliver files whole"):
        read_entity(store, source, "orders", DAY)
    table, files = read_entity(store, source, "orders", DAY)
    assert [each.sha256 for each in files] == [
        hashlib.sha256((folder / each).read_bytes()).hexdigest() for each in ("1.csv", "2.csv")
    ]
    assert table.num_rows == sum(each.rows for each in files)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("name", "reading"), [("1.csv", "1.csv"), ("2.csv", "1.csv"), ("1.csv", "2.csv")])
def test_file_that_is_removed_while_reading_is_named(parts, when, name, reading):
    source, folder = parts
    store = Restless(str(folder.parent), **{when: {f"2025-11-30/{reading}": (folder / name).unlink}})
    with pytest.raises(LandingError, match=rf"2025-11-30/{name} was removed while the date was being read; deliver"):
        read_entity(store, source, "orders", DAY)


def test_file_that_arrives_while_reading_is_an_error(parts):
    source, folder = parts
    store = Restless(str(folder.parent), after={"2025-11-30/2.csv": lambda: (folder / "3.csv").write_text("a\n3\n")})
    with pytest.raises(LandingError, match=r"2025-11-30/3\.csv changed while it was being read"):
        read_entity(store, source, "orders", DAY)


def test_change_between_listing_and_reading_is_an_error(parts):
    source, folder = parts
    store = Store(str(folder.parent))
    marks = mark_files(store, source.entities["orders"], DAY)
    CHANGES["written on"](folder, "2.csv")
    with pytest.raises(LandingError, match=r"2025-11-30/2\.csv changed"):
        read_entity(store, source, "orders", DAY, marks)


def test_file_can_be_read_repeatedly(parts):
    source, folder = parts
    store = Store(str(folder.parent))
    marks = mark_files(store, source.entities["orders"], DAY)
    assert read_entity(store, source, "orders", DAY, marks)[1] == read_entity(store, source, "orders", DAY, marks)[1]
    require_unchanged(store, source.entities["orders"], DAY, marks)


def test_half_delivered_file_is_reported_as_changing(parts):
    source, folder = parts
    (folder / "1.csv").write_text('a\n"half')
    store = Restless(str(folder.parent), after={"2025-11-30/1.csv": lambda: (folder / "1.csv").write_text('a\n"half"\n')})
    with pytest.raises(LandingError, match="changed while it was being read"):
        read_entity(store, source, "orders", DAY)


class Bucket:
    """The part of S3 that reads one object; successive requests return successive ``versions``."""

    def __init__(self, *versions):
        self.versions = list(versions)
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(bucket.versions[0])

            def do_GET(self):
                if len(bucket.versions) > 1:
                    bucket.versions.pop(0)
                self.wfile.write(self.answer(bucket.versions[0]))

            def answer(self, data):
                self.send_response(200)
                # All have the same time: only the ETag differs.
                headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Last-Modified": "Sun, 30 Nov 2025 20:00:00 GMT"}
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                return data

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def bucket(monkeypatch):
    """Return a function that serves an object's versions as s3://shop/orders.csv."""
    served = []

    def serve(*versions):
        served.append(Bucket(*versions))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{served[-1].server.server_port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
            monkeypatch.setenv(name, "eu-central-1")
        return Store("s3://shop")

    yield serve
    for each in served:
        each.server.shutdown()
        each.server.server_close()


def test_object_is_compared_by_the_etag_of_its_request(bucket, shop):
    shop["entities"]["orders"] = {"files": "orders.csv", "columns": {"a": {}}}
    store = bucket(b"a\n1\n", b"a\n2\n")
    with pytest.raises(LandingError, match=r"s3://shop/orders\.csv changed while it was being read"):
        read_entity(store, Source.model_validate(shop), "orders", DAY)
    table, (file,) = read_entity(store, Source.model_validate(shop), "orders", DAY)
    assert (table["a"].to_pylist(), file.sha256) == (["2"], hashlib.sha256(b"a\n2\n").hexdigest())
