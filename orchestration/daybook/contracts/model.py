"""The part of the Open Data Contract Standard (v3) that Daybook reads, typed: what is not understood is refused.

Source of the format: https://bitol-io.github.io/open-data-contract-standard/
"""

from __future__ import annotations

import operator
import re
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Callable, Literal, NamedTuple, Optional, Union

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from daybook.contracts.columns import find_column, find_duplicate_column, normalize_column_name, normalize_sql_names

if TYPE_CHECKING:
    import pyarrow as pa  # Commands that read contracts only to tell of them need not wait for it.

Severity = Literal["error", "warning"]
Number = Union[int, float]
ColumnName = Annotated[str, BeforeValidator(lambda name: normalize_column_name(name) if isinstance(name, str) else name)]
"""A column's name, or ``table.column``, as it is stored."""

VERSION_AT = "version_at"
"""The column of every silver table with the instant at which the source changed the row: the newest version wins."""
LANDED_ON = "landed_on"
"""The column of every silver table with the business date whose landing brought the row."""
PHYSICAL_TYPES = ("VARCHAR", "DATE", "TIMESTAMPTZ", "BOOLEAN", "INTEGER", "BIGINT", "DOUBLE")
"""The types of columns, besides DECIMAL(p,s)."""


class Operator(NamedTuple):
    """How a measured number is compared with the operand of a rule, and the text of that condition."""

    holds: Callable[[Any, Any], bool]
    text: str


OPERATORS = {
    "mustBe": Operator(operator.eq, "exactly {}"),
    "mustNotBe": Operator(operator.ne, "not {}"),
    "mustBeGreaterThan": Operator(operator.gt, "more than {}"),
    "mustBeGreaterOrEqualTo": Operator(operator.ge, "at least {}"),
    "mustBeLessThan": Operator(operator.lt, "less than {}"),
    "mustBeLessOrEqualTo": Operator(operator.le, "at most {}"),
    "mustBeBetween": Operator(lambda number, bounds: bounds[0] <= number <= bounds[1], "{} to {}"),
    "mustNotBeBetween": Operator(lambda number, bounds: not bounds[0] <= number <= bounds[1], "not {} to {}"),
}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class CustomProperty(_Model):
    """A key of Daybook where the standard has none."""

    property: str
    value: Union[bool, int, float, str]
    description: str = ""


class TableProperty(_Model):
    """A key of Daybook on a table, whose value can be a list or a mapping (see ``TableRoles``)."""

    property: str
    value: Any
    description: str = ""


class BusinessDate(_Model):
    """The column of a silver table whose date decides in which business date's gold a row counts."""

    column: ColumnName
    local_day_of: ColumnName = Field(description="The column with the instant; its local day is the business date.")


class Affects(_Model):
    """Which business dates a changed row of a silver table makes stale."""

    dates_of: ColumnName = Field(
        description="A date or instant of the row itself, or a foreign key to the table with the business date."
    )
    through: str = Field(default="", description="The silver table whose rows refer to this table by dates_of.")
    columns: list[ColumnName] = Field(default_factory=list, description="Only changes of these columns count.")
    first_of: ColumnName = Field(
        default="", description="Also the first date of each value of this column, where another date becomes the first."
    )
    where: str = Field(default="", description="SQL condition on the row.")
    only_if: dict[str, str] = Field(default_factory=dict, description="Keys of params with the value for which this holds.")


class RowPosition(_Model):
    """The column that numbers rows for which a source has no key, and the column of the group that they replace together."""

    column: ColumnName
    within: ColumnName
    alongside: str = Field(
        default="", description="Only rows of entities that also give rows without a key to this table are numbered."
    )


class TableRoles(_Model):
    """What package code has to know of a silver table: the custom properties of a table, typed."""

    business_date: Optional[BusinessDate] = Field(default=None, alias="businessDate")
    affects: Optional[list[Affects]] = Field(default=None, description="An empty list where no gold depends on the table.")
    row_position: Optional[RowPosition] = Field(default=None, alias="rowPosition")
    mapping_required: bool = Field(default=False, alias="mappingRequired", description="Every source must map the table.")
    identifying_columns: list[ColumnName] = Field(
        default_factory=list,
        alias="identifyingColumns",
        description="Landed rows of one key that differ in all of these are different things, not versions of one.",
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_single(cls, values: Any) -> Any:
        single = isinstance(values, dict) and isinstance(values.get("affects"), dict)
        return {**values, "affects": [values["affects"]]} if single else values

    def named_columns(self) -> list[str]:
        """Return the columns of the table itself that its properties name."""
        names = [*self.identifying_columns]
        if self.business_date:
            names += [self.business_date.column, self.business_date.local_day_of]
        if self.row_position:
            names += [self.row_position.column, self.row_position.within]
        for each in self.affects or []:
            names += [each.dates_of, *each.columns, *([each.first_of] if each.first_of else [])]
        return names


class TypeOptions(_Model):
    """The standard's ``logicalTypeOptions``: bounds of numbers, dates (ISO texts) and texts."""

    minimum: Union[Number, str, None] = None
    maximum: Union[Number, str, None] = None
    exclusiveMinimum: Union[Number, str, None] = None
    exclusiveMaximum: Union[Number, str, None] = None
    minLength: Optional[int] = Field(default=None, ge=0)
    maxLength: Optional[int] = Field(default=None, ge=0)
    pattern: Optional[str] = Field(default=None, description="Regular expression that a whole value fits.")

    @model_validator(mode="after")
    def _validate_pattern(self) -> TypeOptions:
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"pattern {self.pattern!r} is no regular expression ({error})") from None
        return self


class Arguments(_Model):
    """Arguments of a rule of the standard's library."""

    validValues: Optional[list[str]] = Field(default=None, min_length=1)
    pattern: Optional[str] = None
    missingValues: Optional[list[Optional[str]]] = None
    properties: Optional[list[ColumnName]] = Field(default=None, min_length=1)


class RobustZScore(_Model):
    """Daybook's rule on a figure's history: a robust z-score (median absolute deviation) beyond ``maximum`` breaks it.

    The last ``days`` days are compared, each with its own weekday. Source: Iglewicz and Hoaglin, 1993.
    """

    rule: Literal["robustZScore"]
    days: int = Field(default=28, ge=14, le=366)
    maximum: float = Field(default=3.5, gt=0)


class Quality(_Model):
    """One rule: of the standard's library, an SQL query that gives a number, or one of Daybook's own."""

    name: str = ""
    description: str = ""
    type: Literal["library", "sql", "custom"] = "library"
    severity: Severity = "error"
    dimension: Optional[
        Literal["accuracy", "completeness", "conformity", "consistency", "coverage", "timeliness", "uniqueness"]
    ] = None
    unit: Literal["rows", "percent"] = "rows"
    metric: Optional[Literal["nullValues", "missingValues", "invalidValues", "duplicateValues", "rowCount"]] = None
    arguments: Arguments = Arguments()
    query: Optional[Annotated[str, AfterValidator(normalize_sql_names)]] = None
    engine: Optional[Literal["daybook"]] = None
    implementation: Optional[RobustZScore] = None
    mustBe: Optional[Number] = None
    mustNotBe: Optional[Number] = None
    mustBeGreaterThan: Optional[Number] = None
    mustBeGreaterOrEqualTo: Optional[Number] = None
    mustBeLessThan: Optional[Number] = None
    mustBeLessOrEqualTo: Optional[Number] = None
    mustBeBetween: Optional[tuple[Number, Number]] = None
    mustNotBeBetween: Optional[tuple[Number, Number]] = None

    @model_validator(mode="after")
    def _whole(self) -> Quality:
        given = [name for name in OPERATORS if getattr(self, name) is not None]
        if self.type == "custom":
            if self.engine is None or self.implementation is None or given:
                raise ValueError("a rule of type custom needs engine: daybook and an implementation, and no mustBe…")
            return self
        if len(given) != 1:
            raise ValueError(f"a rule needs exactly one of: {', '.join(OPERATORS)}")
        if self.type == "sql" and not self.query:
            raise ValueError("a rule of type sql needs a query")
        if self.type == "sql" and not self.name:
            raise ValueError("a rule of type sql needs a name that says what holds, for example 'an order has lines'")
        if self.type == "library" and self.metric is None:
            raise ValueError("a rule of type library needs a metric")
        if self.metric == "invalidValues" and bool(self.arguments.validValues) == bool(self.arguments.pattern):
            raise ValueError("invalidValues needs the arguments validValues or pattern, one of them")
        return self

    @property
    def condition(self) -> tuple[str, Any]:
        """(operator as in ``OPERATORS``, operand) that the measured number is held to."""
        return next((name, getattr(self, name)) for name in OPERATORS if getattr(self, name) is not None)


class Relationship(_Model):
    """A foreign key: every value is among those of ``table.column``, a table of the same layer (or landing)."""

    type: Literal["foreignKey"] = "foreignKey"
    to: ColumnName = Field(pattern=r"^\w+\..+$")
    customProperties: list[CustomProperty] = Field(default_factory=list)

    @model_validator(mode="after")
    def _known(self) -> Relationship:
        for item in self.customProperties:
            if item.property != "severity" or item.value not in ("error", "warning"):
                raise ValueError("a relationship knows one custom property, severity: error or warning")
        return self

    @property
    def severity(self) -> str:
        """``warning`` unless said otherwise: what is referred to may land later."""
        return str(self.customProperties[0].value) if self.customProperties else "warning"


class Sla(_Model):
    """A promise on the table as a whole. ``latency``: how soon after the business date's end it is there (h).
    ``freshness``: how old its newest ``element`` may be on the morning after (d; 1: it holds yesterday)."""

    property: Literal["latency", "freshness", "retention", "frequency"]
    value: Number
    unit: Literal["h", "d"]
    element: ColumnName = ""
    description: str = ""

    @model_validator(mode="after")
    def _validate_sla(self) -> Sla:
        if self.property == "freshness" and (self.unit != "d" or not re.fullmatch(r"\w+\..+", self.element)):
            raise ValueError("freshness needs unit: d and an element, which is written table.column")
        if self.property == "latency" and self.value < 0:
            raise ValueError("latency is how long after the business date's end, so it is not negative")
        return self


class Property(_Model):
    """One column: its logical type (the standard's), its physical type (SQL), and what it must satisfy."""

    name: ColumnName = Field(min_length=1)
    logicalType: Literal["string", "date", "timestamp", "number", "integer", "boolean"]
    physicalType: str
    description: str = ""
    required: bool = False
    unique: bool = False
    primaryKey: bool = False
    primaryKeyPosition: int = -1
    partitioned: bool = False
    partitionKeyPosition: int = -1
    classification: Optional[Literal["public", "internal", "pseudonym", "restricted"]] = None
    logicalTypeOptions: TypeOptions = TypeOptions()
    relationships: list[Relationship] = Field(default_factory=list)
    quality: list[Quality] = Field(default_factory=list)
    customProperties: list[CustomProperty] = Field(default_factory=list)

    @model_validator(mode="after")
    def _validate_type(self) -> Property:
        decimal = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", self.physicalType)
        if self.physicalType not in PHYSICAL_TYPES and not (decimal and int(decimal[2]) <= int(decimal[1]) <= 38):
            allowed = ", ".join([*PHYSICAL_TYPES, "DECIMAL(p,s) up to 38 digits"])
            raise ValueError(f"column {self.name!r} has physicalType {self.physicalType!r}; allowed: {allowed}")
        options = self.logicalTypeOptions
        bounds = [options.minimum, options.maximum, options.exclusiveMinimum, options.exclusiveMaximum]
        lengths = [options.minLength, options.maxLength, options.pattern]
        dated = self.logicalType in ("date", "timestamp")
        if any(isinstance(bound, str) != dated for bound in bounds if bound is not None):
            wanted = "ISO dates in quotes" if dated else "numbers"
            raise ValueError(f"column {self.name!r} has bounds that do not fit a {self.logicalType}; they must be {wanted}")
        if self.logicalType in ("string", "boolean") and any(bound is not None for bound in bounds):
            raise ValueError(f"column {self.name!r} is a {self.logicalType}, which has no minimum or maximum")
        if self.logicalType != "string" and any(each is not None for each in lengths):
            raise ValueError(f"column {self.name!r} is no string, so it has no length or pattern")
        for rule in self.quality:
            if rule.metric == "rowCount" or rule.arguments.properties:
                raise ValueError(f"column {self.name!r} has a rule that belongs to the table; move it to the table's quality")
            if rule.type == "custom" and self.logicalType not in ("number", "integer"):
                raise ValueError(f"column {self.name!r} has a robustZScore, which only numbers have")
        return self

    @property
    def arrow_type(self) -> pa.DataType:
        """The column's type in Arrow, and so in Delta Lake."""
        import pyarrow as pa

        decimal = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", self.physicalType)
        if decimal:
            return pa.decimal128(int(decimal[1]), int(decimal[2]))
        types = (pa.string(), pa.date32(), pa.timestamp("us", "UTC"), pa.bool_(), pa.int32(), pa.int64(), pa.float64())
        return dict(zip(PHYSICAL_TYPES, types))[self.physicalType]

    def custom_property(self, name: str) -> Union[bool, int, float, str, None]:
        """Return the value of a custom property, or None."""
        return next((item.value for item in self.customProperties if item.property == name), None)


class Table(_Model):
    """One table of a contract. Column order is the table's."""

    name: str
    logicalType: Literal["object"] = "object"
    physicalType: Literal["table", "file"] = "table"
    description: str = ""
    properties: list[Property] = Field(min_length=1)
    quality: list[Quality] = Field(default_factory=list)
    customProperties: list[TableProperty] = Field(default_factory=list)
    layer: str = Field(default="", exclude=True)
    sla: list[Sla] = Field(default_factory=list, exclude=True)
    file: str = Field(default="", exclude=True)

    @model_validator(mode="after")
    def _validate_consistency(self) -> Table:
        names = [item.name for item in self.properties]
        twice = find_duplicate_column(names)
        if twice is not None:
            raise ValueError(f"column {twice!r} appears twice; remove one")
        for rule in self.quality:
            asked = rule.arguments.properties or []
            unknown = [name for name in asked if find_column(names, name) is None]
            if unknown:
                raise ValueError(f"a rule names the column {unknown[0]!r}, which the table has not")
            # SQL does not match letters beyond ASCII in another case, so rules get the names as the columns have them.
            asked[:] = [find_column(names, name) or name for name in asked]
            if rule.metric in ("nullValues", "missingValues", "invalidValues"):
                raise ValueError(f"{rule.metric} is a rule on a column; move it to the column's quality")
            if rule.type == "custom":
                raise ValueError("robustZScore is a rule on a column; move it to the column's quality")
        return self

    @model_validator(mode="after")
    def _validate_roles(self) -> Table:
        for name in self.roles.named_columns():
            if find_column(self.columns, name) is None:
                raise ValueError(f"customProperties name the column {name!r}, which {self.name!r} does not have; correct it")
        return self

    @cached_property
    def roles(self) -> TableRoles:
        """The custom properties of the table."""
        try:
            return TableRoles.model_validate({each.property: each.value for each in self.customProperties})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
                known = ", ".join(field.alias or name for name, field in TableRoles.model_fields.items())
                raise ValueError(f"table {self.name!r} has the custom property {key!r}; known are: {known}") from None
            raise ValueError(f"table {self.name!r}: the custom property {key!r} is not valid: {first['msg']}") from None

    @property
    def full_name(self) -> str:
        """``layer.name``, as SQL writes it; a landing entity has its bare name."""
        return self.name if self.layer == "landing" else f"{self.layer}.{self.name}"

    @property
    def columns(self) -> list[str]:
        return [item.name for item in self.properties]

    @property
    def key(self) -> list[str]:
        """The primary key's columns in their order."""
        keyed = [item for item in self.properties if item.primaryKey]
        return [item.name for item in sorted(keyed, key=lambda item: item.primaryKeyPosition)]

    @property
    def key_rule(self) -> Optional[Quality]:
        """The contract's own rule on the uniqueness of its primary key, which replaces the one that a key implies."""
        own = (each for each in self.quality if each.metric == "duplicateValues")
        return next((each for each in own if set(each.arguments.properties or []) == set(self.key)), None)

    @property
    def required(self) -> list[str]:
        """Columns that may not be null: the required ones and the key."""
        return [item.name for item in self.properties if item.required or item.primaryKey]

    @property
    def partition_by(self) -> list[str]:
        return [item.name for item in self.properties if item.partitioned]

    @property
    def latency(self) -> Optional[timedelta]:
        """How soon after a business date's end its rows are promised, the strictest promise; None where none is made."""
        promised = [each for each in self.sla if each.property == "latency"]
        return min((timedelta(hours=each.value * (1 if each.unit == "h" else 24)) for each in promised), default=None)

    @property
    def pseudonyms(self) -> list[str]:
        """Columns that hold a keyed pseudonym instead of the value."""
        return [item.name for item in self.properties if item.classification == "pseudonym"]

    def columns_with(self, custom_property: str) -> list[str]:
        """Return the columns for which a custom property is true."""
        return [item.name for item in self.properties if item.custom_property(custom_property) is True]

    @property
    def derived(self) -> list[str]:
        """Columns that no landing gives: a cell derives them from merged silver tables, by the table's key."""
        return self.columns_with("derived")

    @property
    def mappable(self) -> list[str]:
        """Columns that the mapping of a source can give. The transform notebook computes the others."""
        computed = {LANDED_ON, *self.columns_with("computed"), *self.derived}
        return [name for name in self.columns if name not in computed]

    @property
    def mapping_defaults(self) -> dict[str, Union[bool, int, float, str]]:
        """The value of a column that a mapping does not give, by column."""
        given = {item.name: item.custom_property("default") for item in self.properties}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def arrow_schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([pa.field(item.name, item.arrow_type) for item in self.properties])

    def type_of(self, column: str) -> str:
        """Return the SQL type of a column."""
        return next(item.physicalType for item in self.properties if item.name == column)


class Contract(_Model):
    """One contract file: its tables, their purpose and what is promised of them."""

    apiVersion: Literal["v3.1.0"]
    kind: Literal["DataContract"]
    id: str
    version: str
    status: Literal["draft", "active", "deprecated", "retired"]
    name: str = ""
    domain: str = ""
    description: dict[str, str] = Field(default_factory=dict)
    schema_: list[Table] = Field(alias="schema", min_length=1)
    slaProperties: list[Sla] = Field(default_factory=list)
