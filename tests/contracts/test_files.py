"""Test how contract files are read and validated, and the contracts of the project."""

from __future__ import annotations

import os
import unicodedata

import pyarrow as pa
import pytest

from daybook.contracts import LAYERS, load_table, load_tables, read_contract
from daybook.contracts.canonical import affected_dates, business_date_column, business_date_table
from daybook.errors import ContractError, ParamsError

FILE = "params/contracts/silver/visits.yaml"
VISITS = """\
apiVersion: v3.1.0
kind: DataContract
id: daybook.silver.visits
version: 1.0.0
status: active
schema:
  - name: visits
    properties:
      - {name: page, logicalType: string, physicalType: VARCHAR, primaryKey: true, primaryKeyPosition: 2}
      - {name: visitor, logicalType: string, physicalType: VARCHAR, classification: pseudonym, primaryKey: true,
         primaryKeyPosition: 1}
      - {name: day, logicalType: date, physicalType: DATE, required: true, partitioned: true}
      - {name: seconds, logicalType: number, physicalType: "DECIMAL(18,4)"}
      - {name: version_at, logicalType: timestamp, physicalType: TIMESTAMPTZ}
"""


@pytest.fixture
def visits(project):
    project.write(FILE, VISITS)
    return project


def refusal(project, error=ContractError):
    with pytest.raises(error) as caught:
        read_contract(project.root / FILE)
    return str(caught.value)


def test_columns_are_in_the_order_of_the_contract(visits):
    assert load_table("silver.visits").columns == ["page", "visitor", "day", "seconds", "version_at"]


def test_key_is_in_the_order_of_its_positions(visits):
    assert load_table("silver.visits").key == ["visitor", "page"]


def test_keys_and_required_columns_are_not_nullable(visits):
    assert load_table("silver.visits").required == ["page", "visitor", "day"]


def test_partitions_and_pseudonyms_are_read(visits):
    table = load_table("silver.visits")
    assert (table.partition_by, table.pseudonyms) == (["day"], ["visitor"])


def test_types_are_equal_in_sql_and_arrow(visits):
    table = load_table("silver.visits")
    assert table.type_of("seconds") == "DECIMAL(18,4)"
    assert table.arrow_schema == pa.schema(
        [
            ("page", pa.string()),
            ("visitor", pa.string()),
            ("day", pa.date32()),
            ("seconds", pa.decimal128(18, 4)),
            ("version_at", pa.timestamp("us", "UTC")),
        ]
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("kind: DataContract\n", "", "key 'kind' is missing; add it."),
        ("status: active", "status: active\ncolour: red", "there is no key 'colour'; remove it."),
        ("status: active", "status: new", "key 'status' is 'new': it should be 'draft', 'active', 'deprecated' or 'retired'."),
        ("required: true", "mandatory: true", "there is no key 'schema.0.properties.2.mandatory'; remove it."),
        ("physicalType: DATE,", "", "key 'schema.0.properties.2.physicalType' is missing; add it."),
        (
            "logicalType: date",
            "logicalType: day",
            "key 'schema.0.properties.2.logicalType' is 'day': it should be 'string', 'date', 'timestamp', 'number', "
            "'integer' or 'boolean'.",
        ),
        ("name: day", "name: page", "key 'schema.0': column 'page' appears twice; remove one."),
        ("- name: visits", "- name: hits", "key 'schema.0.name' is 'hits'; the file holds one table, visits."),
    ],
)
def test_invalid_contract_is_reported_with_file_and_key(visits, old, new, expected):
    visits.replace(FILE, old, new)
    assert refusal(visits) == f"{FILE}: {expected}"


@pytest.mark.parametrize("given", ["TEXT", "DECIMAL", "DECIMAL(39,4)", "DECIMAL(4,18)", "date"])
def test_unknown_physical_type_is_reported_with_known_ones(visits, given):
    visits.replace(FILE, '"DECIMAL(18,4)"', f'"{given}"')
    assert refusal(visits) == (
        f"{FILE}: key 'schema.0.properties.3': column 'seconds' has physicalType {given!r}; allowed: VARCHAR, DATE, "
        "TIMESTAMPTZ, BOOLEAN, INTEGER, BIGINT, DOUBLE, DECIMAL(p,s) up to 38 digits."
    )


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ("logicalTypeOptions: {minimum: 1}", "column 'page' is a string, which has no minimum or maximum"),
        ("logicalTypeOptions: {pattern: '['}", "pattern '[' is no regular expression"),
        ("quality: [{metric: invalidValues, mustBe: 0}]", "invalidValues needs the arguments validValues or pattern"),
        ("quality: [{metric: nullValues}]", "a rule needs exactly one of: mustBe, mustNotBe,"),
        ("quality: [{metric: nullValues, mustBe: 0, mustBeLessThan: 5}]", "a rule needs exactly one of: mustBe, mustNotBe,"),
        ("quality: [{metric: rowCount, mustBe: 0}]", "column 'page' has a rule that belongs to the table"),
        ("quality: [{type: sql, mustBe: 0, name: x}]", "a rule of type sql needs a query"),
        ("quality: [{type: sql, mustBe: 0, query: SELECT 1}]", "a rule of type sql needs a name that says what holds"),
        ("quality: [{mustBe: 0}]", "a rule of type library needs a metric"),
        ("quality: [{type: custom, engine: daybook}]", "a rule of type custom needs engine: daybook and an implementation"),
        (
            "quality: [{type: custom, engine: daybook, implementation: {rule: robustZScore}}]",
            "column 'page' has a robustZScore, which only numbers have",
        ),
        (
            "relationships: [{to: nobody.id}]",
            "'page' of 'visits' refers to 'nobody.id', which is not there; correct it.",
        ),
        (
            "relationships: [{to: orders.id}]",
            "'page' of 'visits' refers to 'orders.id', which is not there; correct it.",
        ),
        (
            "relationships: [{to: orders.order_id, customProperties: [{property: severity, value: bad}]}]",
            "a relationship knows one custom property, severity: error or warning",
        ),
    ],
)
def test_invalid_rule_is_reported_with_file_and_key(visits, added, expected):
    visits.replace(FILE, "primaryKeyPosition: 2}", f"primaryKeyPosition: 2,\n         {added}}}")
    message = refusal(visits)
    assert message.startswith(f"{FILE}: ")
    assert expected in message


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ("{metric: nullValues, mustBe: 0}", "nullValues is a rule on a column"),
        ("{metric: duplicateValues, mustBe: 0, arguments: {properties: [colour]}}", "a rule names the column 'colour'"),
        ("{type: custom, engine: daybook, implementation: {rule: robustZScore}}", "robustZScore is a rule on a column"),
        ("{metric: duplicateValues, mustBe: 0}", "duplicateValues needs the argument properties"),
        ("{metric: rowCount, mustBe: 1, severity: bad}", "it should be 'error' or 'warning'"),
    ],
)
def test_invalid_rule_of_a_table_is_reported(visits, added, expected):
    visits.write(FILE, f"{VISITS}    quality: [{added}]\n")
    assert expected in refusal(visits)


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        (
            "{property: colour, value: red}",
            "table 'visits' has the custom property 'colour'; known are: businessDate, affects,",
        ),
        (
            "{property: affects, value: {dates_of: hour}}",
            "customProperties name the column 'hour', which 'visits' does not have",
        ),
        ("{property: affects, value: {date: day}}", "table 'visits': the custom property 'affects.0.dates_of' is not valid"),
        ("{property: rowPosition, value: page}", "table 'visits': the custom property 'rowPosition' is not valid"),
    ],
)
def test_wrong_custom_property_of_a_table_is_refused(visits, added, expected):
    visits.write(FILE, f"{VISITS}    customProperties: [{added}]\n")
    assert expected in refusal(visits)


def test_wrong_custom_property_of_a_column_is_refused(visits):
    visits.replace(FILE, "primaryKeyPosition: 2}", "primaryKeyPosition: 2, customProperties: [{property: odd, value: 1}]}")
    assert "column 'page' has the custom property 'odd'; known are: computed, derived," in refusal(visits)


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ("", "'visits' needs the custom property affects"),
        (
            "{property: affects, value: {dates_of: page}}",
            "has dates_of 'page', which must be a date, an instant, or a foreign key",
        ),
        ("{property: affects, value: {dates_of: page, through: lines}}", "goes through 'lines'; the silver tables are: "),
        (
            "{property: affects, value: {dates_of: page, through: orders}}",
            "goes through 'orders', which must refer to 'visits'",
        ),
        ("{property: affects, value: {dates_of: day, first_of: page}}", "has first_of, which only 'orders' can have"),
    ],
)
def test_dates_that_a_table_cannot_affect_are_refused(visits, added, expected):
    visits.write(FILE, f"{VISITS}    customProperties: [{added}]\n" if added else VISITS)
    with pytest.raises(ContractError) as caught:
        affected_dates(load_table("silver.visits"))
    assert expected in str(caught.value)


def test_table_affects_the_dates_of_rows_it_refers_to(visits):
    visits.replace(FILE, "primaryKeyPosition: 2}", "primaryKeyPosition: 2, relationships: [{to: orders.order_id}]}")
    assert [each.dates_of for each in affected_dates(load_table("silver.visits"))] == ["page"]


def test_orders_have_the_business_date():
    assert (business_date_table().full_name, business_date_column()) == ("silver.orders", "order_date")


def test_two_tables_with_a_business_date_are_refused(visits):
    visits.write(
        FILE, f"{VISITS}    customProperties: [{{property: businessDate, value: {{column: day, local_day_of: version_at}}}}]\n"
    )
    with pytest.raises(ContractError, match=r"One contract in .* must have the custom property businessDate"):
        business_date_table()


def test_figure_is_watched_only_where_a_date_has_one_row(project):
    watched = "quality: [{type: custom, engine: daybook, implementation: {rule: robustZScore}}]"
    for name, column in (("category_sales", "units"), ("customer_rfm", "frequency")):
        file = f"params/contracts/gold/{name}.yaml"
        text = (project.root / file).read_text(encoding="utf-8")
        place = text.index("logicalTypeOptions", text.index(f"- name: {column}\n"))
        project.write(file, f"{text[:place]}{watched}\n        {text[place:]}")
        with pytest.raises(ContractError, match=f"column '{column}' has a robustZScore, which needs a gold table of one row"):
            read_contract(project.root / file)


@pytest.mark.parametrize(
    ("promise", "expected"),
    [
        (
            "{property: freshness, value: 1, unit: d, element: visits.hour}",
            "the element 'visits.hour', which is not there",
        ),
        ("{property: freshness, value: 1, unit: h, element: visits.day}", "freshness needs unit: d and an element"),
        ("{property: colour, value: 1, unit: h}", "it should be 'latency', 'freshness', 'retention' or 'frequency'"),
    ],
)
def test_invalid_sla_property_is_reported(visits, promise, expected):
    visits.write(FILE, f"{VISITS}slaProperties: [{promise}]\n")
    assert expected in refusal(visits)


def test_every_gold_table_has_a_latency_of_a_day():
    for table in load_tables("gold").values():
        assert [(each.value, each.unit) for each in table.sla if each.property == "latency"] == [(24, "h")]
    fresh = [each for each in load_table("gold.daily_sales").sla if each.property == "freshness"]
    assert [(each.value, each.element) for each in fresh] == [(1, "daily_sales.order_date")]


def test_table_needs_a_key(visits):
    visits.write(FILE, VISITS.replace("primaryKey: true", "primaryKey: false"))
    assert refusal(visits) == f"{FILE}: no column has primaryKey: true; every table needs a key."


def test_table_needs_columns(visits):
    visits.write(FILE, VISITS.split("    properties:")[0] + "    properties: []\n")
    assert refusal(visits).startswith(f"{FILE}: key 'schema.0.properties' is []: it should have at least 1 item")


def test_broken_yaml_is_reported_with_its_line(visits):
    visits.replace(FILE, "id: daybook", "id: [daybook")
    assert refusal(visits, ParamsError).startswith(f"{FILE}, line 4: not valid YAML (")


@pytest.mark.parametrize("name", ["silver.clicks", "bronze.orders", "orders"])
def test_unknown_table_is_reported_with_the_known_ones(name):
    with pytest.raises(ContractError) as caught:
        load_table(name)
    known = ", ".join([*load_tables("silver"), *load_tables("gold")])
    assert str(caught.value) == f"{name} has no contract; the contracts are: {known}."


@pytest.mark.parametrize("layer", LAYERS)
def test_contracts_of_the_project_have_valid_types(layer):
    for table in load_tables(layer).values():
        assert table.arrow_schema.names == table.columns


@pytest.mark.parametrize("name", sorted(load_tables("silver")))
def test_every_silver_table_has_version_and_landing_dates(name):
    table = load_table(name)
    assert (table.type_of("version_at"), table.type_of("landed_on")) == ("TIMESTAMPTZ", "DATE")
    assert {"version_at", "landed_on"} <= set(table.required)


@pytest.mark.parametrize("name", [*load_tables("silver"), *load_tables("gold")])
def test_money_is_never_a_float(name):
    money = ("amount", "revenue", "price", "freight", "value", "monetary")
    for item in load_table(name).properties:
        if item.logicalType == "number" and any(word in item.name for word in money):
            assert item.physicalType == "DECIMAL(18,4)", item.name


@pytest.mark.parametrize("name", ["silver.orders", "silver.customers"])
def test_customers_are_pseudonyms(name):
    assert load_table(name).pseudonyms == ["customer_key"]


def test_silver_has_the_tables_of_the_canonical_model():
    names = ("customers", "order_items", "orders", "payments", "products", "reviews")
    assert list(load_tables("silver")) == [f"silver.{name}" for name in names]


def test_gold_has_the_tables_that_dashboards_read():
    assert set(load_tables("gold")) == {
        "gold.daily_sales",
        "gold.category_sales",
        "gold.product_sales",
        "gold.payment_mix",
        "gold.delivery_performance",
        "gold.customer_rfm",
        "gold.cohort_retention",
    }


def test_daily_sales_has_one_row_per_order_date_with_its_figures():
    table = load_table("gold.daily_sales")
    assert table.key == ["order_date"]
    assert table.columns == [
        "order_date",
        "orders",
        "cancelled_orders",
        "units",
        "gross_revenue",
        "returns_amount",
        "net_revenue",
        "average_order_value",
        "adjustments_amount",
        "new_customers",
        "returning_customers",
    ]


def in_a_fork(read):
    """Return the result of ``read`` in a child process."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(sending, repr(read()).encode())
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as pipe:
        result = pipe.read()
    os.waitpid(child, 0)
    return result


def test_fork_uses_unchanged_contracts_of_its_parent(visits):
    of_parent = load_table("silver.visits")
    assert in_a_fork(lambda: id(load_table("silver.visits"))) == repr(id(of_parent))


def test_fork_reads_changed_contracts_again(visits):
    load_table("silver.visits")
    visits.write(FILE, VISITS.replace("name: seconds", "name: minutes"))
    assert "minutes" in in_a_fork(lambda: load_table("silver.visits").columns)


SIZE = "Größe"
DECOMPOSED = unicodedata.normalize("NFD", SIZE)


def test_names_are_composed_and_stripped(visits):
    visits.replace(FILE, "name: seconds", f"name: ' {DECOMPOSED} '")
    assert SIZE in load_table("silver.visits").columns


@pytest.mark.parametrize("name", ["PAGE", "' page'"])
def test_columns_that_are_equal_in_sql_are_refused(visits, name):
    visits.replace(FILE, "name: seconds", f"name: {name}")
    assert refusal(visits) == f"{FILE}: key 'schema.0': column 'page' appears twice; remove one."


def test_rule_names_columns_in_any_case(visits):
    rule = "    quality:\n      - {metric: duplicateValues, mustBe: 0, arguments: {properties: [PAGE, GRÖßE]}}\n"
    visits.write(FILE, VISITS.replace("name: seconds", f"name: {SIZE}") + rule)
    (found,) = load_table("silver.visits").quality
    assert found.arguments.properties == ["page", SIZE]


def test_query_finds_a_column_in_any_unicode_form(visits):
    rule = f"    quality:\n      - {{name: sized, type: sql, query: 'SELECT max(\"{DECOMPOSED} \") FROM x', mustBe: 1}}\n"
    visits.write(FILE, VISITS.replace("name: seconds", f"name: {DECOMPOSED}") + rule)
    assert load_table("silver.visits").quality[0].query == f'SELECT max("{SIZE}") FROM x'


def test_foreign_keys_and_slas_name_columns_in_any_case(visits):
    text = VISITS.replace("name: page,", "name: page, relationships: [{to: visits.PAGE}],")
    promise = "slaProperties: [{property: freshness, value: 1, unit: d, element: visits.DAY}]\n"
    visits.write(FILE, text + promise)
    assert load_table("silver.visits").sla[0].element == "visits.DAY"
