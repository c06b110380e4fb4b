"""Test JSONata templates against the rules of Step Functions."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from asl_local.template import ARRAY, BOOLEAN, COUNT, STRING, UNSUPPORTED_FUNCTIONS, EvaluationError, ExpressionError, Template


def evaluate(value, variables=None, **states):
    return Template(value).evaluate(states, variables or {}, "Output")


def test_expressions_are_evaluated_at_any_depth():
    value = {"a": ["{% $n + 1 %}", "plain", None, 2.5], "{% key %}": {"b": "{%$states.input.x%}"}}
    assert evaluate(value, {"n": 1}, input={"x": "y"}) == {
        "a": [2, "plain", None, 2.5],
        "{% key %}": {"b": "y"},
    }


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("$parse('{\"a\": [1, null]}')", {"a": [1, None]}),
        ("$toMillis('2025-12-01T02:00:00.000Z')", 1764554400000),
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
        Template({"a": [text]})


@pytest.mark.parametrize("name", sorted(UNSUPPORTED_FUNCTIONS))
def test_unsupported_function_is_rejected(name):
    with pytest.raises(ExpressionError, match=rf"\${name} is not available; use"):
        Template("{% [1].$" + name + "() %}")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [(ARRAY, [], "a"), (BOOLEAN, True, 1), (COUNT, 0, -1), (COUNT, 2, True), (COUNT, 2, 1.5), (STRING, "", None)],
)
def test_template_checks_kind_of_value(kind, good, bad):
    assert Template(good, kind).evaluate({}, {}, "Output") == good
    with pytest.raises(ExpressionError, match=f"must be {kind.expected}"):
        Template(bad, kind)
    with pytest.raises(EvaluationError, match=f"'Output' must be {kind.expected}, and is {json.dumps(bad)}"):
        Template("{% $x %}", kind).evaluate({}, {"x": bad}, "Output")


def test_result_shares_no_objects_with_scope():
    data = {"list": [1]}
    evaluate("{% $states.input %}", input=data)["list"].append(2)
    assert data == {"list": [1]}


def test_free_variables_exclude_bound_ones():
    value = "{% ($f := function($x){ $x + $y }; $map($z, $f); items#$i.{'k': $i}; $states.input; $parse('1')) %}"
    assert Template(value).free_variables == {"y", "z"}


def test_template_is_thread_safe():
    template = Template("{% $sum($map([1..20], function($i){ $i * $n })) %}")

    def one(n):
        return template.evaluate({}, {"n": n}, "Output")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(40))) == [210 * n for n in range(40)]
