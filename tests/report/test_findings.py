"""Test what is read from a run's record about rules, landed rows, restated dates and redactions."""

from __future__ import annotations

from daybook.report import findings

RULES = [
    {"table": "orders", "rule": "city is there", "severity": "warning", "checked": 9, "failing": 8, "samples": []},
    {"table": "orders", "rule": "status is known", "severity": "error", "checked": 9, "failing": 2, "samples": ["a:1"]},
]


def test_errors_are_listed_before_warnings(run, attempt):
    record = run(
        stages=[
            attempt("validate", details={"rules_checked": 30, "rules": RULES}),
            attempt("transform", details={}),
            attempt("quality", details={"rules_checked": 7, "rules": []}),
        ]
    )
    found = findings.list_rule_results(record)
    assert [(each.stage, each.checked, len(each.broken)) for each in found] == [("validate", 30, 2), ("quality", 7, 0)]
    assert [rule.rule for rule in found[0].broken] == ["status is known", "city is there"]


def test_rules_within_limits_are_counted_separately(run, attempt):
    rules = [{**RULES[0], "outcome": "within limits"}, RULES[1]]
    (found,) = findings.list_rule_results(run(stages=[attempt("validate", details={"rules_checked": 30, "rules": rules})]))
    assert (len(found.broken), found.within_limits) == (2, 1)


def test_last_attempt_of_a_stage_counts(run, attempt):
    failed = attempt("validate", outcome="FAILED", details={"rules_checked": 30, "rules": RULES})
    record = run(stages=[failed, attempt("validate", attempt=2, details={"rules_checked": 30, "rules": []})])
    assert [len(each.broken) for each in findings.list_rule_results(record)] == [0]


def test_landed_rows_are_counted_by_entity_and_in_total(run, attempt):
    counted = {
        "orders": {"landed": 10, "accepted": 7, "quarantined": 2, "duplicates": 1},
        "payments": {"landed": 5, "accepted": 4, "quarantined": 0, "duplicates": 0},
    }
    found = findings.list_row_accounting(run(stages=[attempt("validate", details={"accounting": counted})]))
    assert list(found) == ["orders", "payments", "all"]
    whole = found["all"]
    assert (whole.landed, whole.accepted, whole.quarantined, whole.duplicates) == (15, 11, 2, 1)


def test_figures_have_the_order_of_the_notebook(run, attempt):
    record = run(summary={"b": 1, "a": 2, "c": 3}, stages=[attempt("notify", details={"figures": ["c", "a", "gone"]})])
    assert list(findings.order_figures(record).items()) == [("c", 3), ("a", 2), ("b", 1)]
    assert findings.order_figures(run(summary=None)) == {}


def test_restated_dates_are_sorted_and_may_be_new(run, attempt):
    restated = [
        {"order_date": "2018-05-04", "before": {"orders": 2}, "after": {"orders": 3}},
        {"order_date": "2018-05-01", "before": None, "after": {"orders": 1}},
    ]
    first, second = findings.list_restatements(run(stages=[attempt("quality", details={"restated": restated})]))
    assert (first.business_date, first.before, first.after) == ("2018-05-01", None, {"orders": 1})
    assert (second.before, second.after) == ({"orders": 2}, {"orders": 3})


def test_redactions_of_all_attempts_are_summed(run, attempt):
    stages = [attempt("ingest", redactions={"email": 2}), attempt("validate", redactions={"email": 1, "city": 4})]
    assert findings.count_redactions(run(stages=stages, redactions={"phone": 1})) == {"city": 4, "email": 3, "phone": 1}


def test_run_without_details_has_no_findings(run):
    record = run()
    assert findings.list_rule_results(record) == findings.list_restatements(record) == []
    assert findings.list_row_accounting(record) == {}
    assert findings.stage_details(record, "quality").held_dates == []
    assert findings.count_redactions(record) == {}


def test_withheld_details_are_not_an_error(run, attempt):
    record = run(stages=[attempt("validate", details=None), attempt("quality", details=None)])
    assert findings.list_rule_results(record) == findings.list_restatements(record) == []
    assert findings.list_row_accounting(record) == {}
