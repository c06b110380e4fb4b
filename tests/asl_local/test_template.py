"""Test JSONata templates against the rules of Step Functions."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from random import Random

import pytest

from asl_local.template import EvaluationError, ExpressionError, Scope, Template


def scope_of(states, variables, seed=1):
    return Scope(states, variables, datetime(2025, 12, 1, 2, tzinfo=timezone.utc), Random(seed))  # noqa: S311


def evaluate(value, variables=None, seed=1, **states):
    return Template(value, "Output").evaluate(scope_of(states, variables or {}, seed))


def test_expressions_are_evaluated_at_any_depth():
    value = {"a": ["{% $n + 1 %}", "plain", None, 2.5], "{% key %}": {"b": "{%$states.input.x%}"}}
    assert evaluate(value, {"n": 1}, input={"x": "y"}) == {
        "a": [2, "plain", None, 2.5],
        "{% key %}": {"b": "y"},
    }


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("$partition([1,2,3], 2)", [[1, 2], [3]]),
        ("$range(0, 10, 5)", [0, 5, 10]),
        ("$range(3, 1, -1)", [3, 2, 1]),
        ("$hash('a', 'SHA-256')", hashlib.sha256(b"a").hexdigest()),
        ("$hash('a', 'MD5')", "0cc175b9c0f1b6a831c399e269772661"),
        ("$parse('{\"a\": [1, null]}')", {"a": [1, None]}),
        ("$random(5) = $random(5)", True),
        ("$now()", "2025-12-01T02:00:00.000Z"),
        ("$now('[Y0001]-[M01]-[D01]')", "2025-12-01"),
        ("$millis()", 1764554400000),
        ("6 / 2", 3),
        ("null", None),
        ("$states.input.empty", []),
        ("$states.input.nothing", None),
        ("$states.input.list[1] = null", True),
        ("$exists($states.input.absent)", False),
        ("$states.input", {"empty": [], "nothing": None, "list": [1, None]}),
        ("$map(['1', '2'], $parse)", [1, 2]),
    ],
)
def test_expressions_return_values_of_step_functions(expression, expected):
    data = {"empty": [], "nothing": None, "list": [1, None]}
    assert evaluate("{% " + expression + " %}", input=data) == expected


def test_variable_with_null_is_defined():
    assert evaluate("{% $v %}", {"v": None}) is None


def test_uuid_is_version_4_and_uses_injected_random():
    first = evaluate("{% $uuid() %}", seed=4)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", first)
    assert first == evaluate("{% $uuid() %}", seed=4) != evaluate("{% $uuid() %}", seed=5)


@pytest.mark.parametrize("expression", ["$states.input.absent", "$absent", "absent", "$", "[1,2][$ > 5]"])
def test_undefined_is_an_error(expression):
    with pytest.raises(EvaluationError, match="returned nothing \\(undefined\\)") as caught:
        evaluate({"deep": ["{% " + expression + " %}"]}, input={})
    assert caught.value.location == "Output/deep[0]"
    assert f"'{expression}'" in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("1 + 'a'", "threw an error"),
        ("1 / 0", "threw an error"),
        ("$error('no such day')", "no such day"),
        ("$hash('a', 'CRC')", "MD5, SHA-1"),
        ("$range(0, 1, 0)", "step that is not 0"),
        ("$partition(1, 1)", "takes an array"),
        ("$parse(1)", "takes a JSON string"),
        ("function($x){$x}", "a function"),
    ],
)
def test_evaluation_error_contains_reason(expression, message):
    with pytest.raises(EvaluationError, match=message):
        evaluate("{% " + expression + " %}")


@pytest.mark.parametrize("text", ["{% 1 + %}", "{% $eval('1') %}", " {% 1 %}", "{% 1 %} ", "{% 1", "{%"])
def test_invalid_expression_is_rejected(text):
    with pytest.raises(ExpressionError):
        Template({"a": [text]}, "Output")


def test_result_shares_no_objects_with_scope():
    data = {"list": [1]}
    evaluate("{% $states.input %}", input=data)["list"].append(2)
    assert data == {"list": [1]}


def test_free_variables_exclude_bound_ones():
    value = "{% ($f := function($x){ $x + $y }; $map($z, $f); items#$i.{'k': $i}; $states.input; $uuid()) %}"
    assert Template(value, "Output").free_variables() == {"y", "z"}


def test_template_is_thread_safe():
    template = Template("{% $sum($map([1..20], function($i){ $i * $n })) %}", "Output")

    def one(n):
        return template.evaluate(scope_of({}, {"n": n}))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(40))) == [210 * n for n in range(40)]
