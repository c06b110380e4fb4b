"""Test that alarms and dashboard use existing metrics within the limits of CloudWatch."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, Set, Tuple

import pytest

from daybook.execution.aws.metrics import METRICS, metrics_namespace
from tests.infra.policies import matches
from tests.infra.templates import Template, list_exports, load_machine

MACHINES = ("daily", "backfill", "catch-up", "nightly")
NAMESPACE = metrics_namespace("prod")
KNOWN = {metric.name: metric for metric in METRICS}


@pytest.fixture(scope="module")
def watch() -> Template:
    return Template("watch")


def alarmed(alarm: Dict[str, Any]) -> Iterator[Tuple[str, str, Dict[str, str], int]]:
    """Yield the metrics of an alarm: namespace, name, dimensions, period."""
    for each in [alarm, *(found["MetricStat"] for found in alarm.get("Metrics", []) if "MetricStat" in found)]:
        metric = each.get("Metric", each)
        if "MetricName" in metric:
            dimensions = {found["Name"]: found["Value"] for found in metric["Dimensions"]}
            yield metric["Namespace"], metric["MetricName"], dimensions, each["Period"]


def drawn(board: Any) -> Iterator[Tuple[str, str, Dict[str, str]]]:
    """Yield the metrics of a dashboard: namespace, name, dimensions."""
    for widget in board["widgets"]:
        for row in widget["properties"].get("metrics", []):
            texts = [each for each in row if isinstance(each, str)]
            if texts:
                yield texts[0], texts[1], dict(zip(texts[2::2], texts[3::2]))


def board(watch: Template) -> Any:
    return json.loads(watch.resources["Dashboard"]["Properties"]["DashboardBody"])


def check(namespace: str, name: str, dimensions: Dict[str, str]) -> None:
    """Check that a metric has exactly the dimensions with which it is sent, since others are another metric."""
    if namespace == NAMESPACE:
        metric = KNOWN[name]
        assert tuple(dimensions) == metric.dimensions
        assert dimensions["Environment"] == "prod"
        assert not metric.dimension or dimensions[metric.dimension] in metric.values
        return
    queues = {
        each["QueueName"] for name in ("pipeline", "watch") for each in Template(name).of_type("AWS::SQS::Queue").values()
    }
    if namespace == "AWS/SQS":
        assert tuple(dimensions) == ("QueueName",)
        assert dimensions["QueueName"] in queues
        return
    wanted = {
        "AWS/States": ("StateMachineArn", "arn:aws:states:eu-central-1:123456789012:stateMachine:daybook-prod-daily"),
        "AWS/Athena": ("WorkGroup", Template("catalogue").resources["Workgroup"]["Properties"]["Name"]),
    }
    assert dimensions == dict([wanted[namespace]])


def test_alarms_use_existing_metrics(watch: Template) -> None:
    read = [found for alarm in watch.of_type("AWS::CloudWatch::Alarm").values() for found in alarmed(alarm)]
    for namespace, name, dimensions, _ in read:
        check(namespace, name, dimensions)
    assert {name for namespace, name, _, _ in read if namespace == NAMESPACE} == {
        *("Runs", "RunSeconds", "TimesUsual", "FreshnessHours", "QuarantineShare"),
    }


def test_dashboard_shows_all_existing_metrics(watch: Template) -> None:
    found = list(drawn(board(watch)))
    for each in found:
        check(*each)
    assert {name for namespace, name, _ in found if namespace == NAMESPACE} == set(KNOWN)
    for metric in METRICS:
        values = {dimensions[metric.dimension] for _, name, dimensions in found if name == metric.name and metric.dimension}
        assert values == set(metric.values)


def test_alarm_periods_fit_limits_of_cloudwatch(watch: Template) -> None:
    for alarm in watch.of_type("AWS::CloudWatch::Alarm").values():
        for _, _, _, period in alarmed(alarm):
            assert period * alarm["EvaluationPeriods"] <= (7 * 86400 if period >= 3600 else 86400)


def test_missing_data_raise_freshness_alarm_only() -> None:
    def breaching(**parameters: str) -> set[str]:
        alarms = Template("watch", **parameters).of_type("AWS::CloudWatch::Alarm")
        return {key for key, each in alarms.items() if each["TreatMissingData"] == "breaching"}

    assert breaching() == {"NotFresh"}
    assert breaching(Nightly="DISABLED") == set()


def test_one_success_in_26_hours_is_fresh(watch: Template) -> None:
    alarm = watch.resources["NotFresh"]["Properties"]
    (found,) = alarmed(alarm)
    assert (found[1], found[3] * alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == ("FreshnessHours", 26 * 3600, 26)
    assert alarm["Threshold"] == 24


def test_run_that_dies_without_message_is_counted(watch: Template) -> None:
    alarm = watch.resources["RunFailed"]["Properties"]
    counted = {name for namespace, name, _, _ in alarmed(alarm) if namespace == "AWS/States"}
    assert counted == {"ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"}
    (expression,) = [each["Expression"] for each in alarm["Metrics"] if "Expression" in each]
    ids = {each["Id"] for each in alarm["Metrics"] if "MetricStat" in each}
    assert set(expression.replace("FILL(", "").replace(", 0)", "").replace("+", " ").replace("-", " ").split()) == ids
    assert expression.endswith("- FILL(rejected, 0)")


def test_only_composite_alarm_sends_messages(watch: Template) -> None:
    (composite,) = watch.of_type("AWS::CloudWatch::CompositeAlarm").values()
    alarms = watch.of_type("AWS::CloudWatch::Alarm")
    assert composite["AlarmRule"].split(" OR ") == [f'ALARM("{key}")' for key in alarms]
    assert composite["AlarmActions"] == [list_exports()["daybook-prod-TopicArn"]]
    assert {each["ActionsEnabled"] for each in alarms.values()} == {False}


def test_dashboard_shows_every_alarm(watch: Template) -> None:
    shown = next(widget["properties"]["alarms"] for widget in board(watch)["widgets"] if widget["type"] == "alarm")
    names = [each["AlarmName"] for each in watch.of_type("AWS::CloudWatch::Alarm").values()]
    assert shown == [f"arn:aws:cloudwatch:eu-central-1:123456789012:alarm:{name}" for name in names]


def test_widgets_fit_dashboard_without_overlap(watch: Template) -> None:
    taken = set()
    for widget in board(watch)["widgets"]:
        x, y, width, height = (widget[key] for key in ("x", "y", "width", "height"))
        cells = {(column, row) for column in range(x, x + width) for row in range(y, y + height)}
        assert not cells & taken
        assert x + width <= 24
        taken |= cells


def bad_end(machine: str = "daily", status: str = "FAILED", **detail: Any) -> Dict[str, Any]:
    """Return the event of Step Functions for the end of an execution."""
    arn = f"arn:aws:states:eu-central-1:123456789012:stateMachine:daybook-prod-{machine}"
    given = {"stateMachineArn": arn, "status": status, "input": "{}", **detail}
    return {"source": "aws.states", "detail-type": "Step Functions Execution Status Change", "detail": given}


@pytest.mark.parametrize(
    ("event", "reported"),
    [
        *((bad_end(machine, status), True) for machine in MACHINES for status in ("FAILED", "TIMED_OUT", "ABORTED")),
        (bad_end(error="Daybook.NotifyFailed"), True),
        (bad_end(error="States.Runtime"), True),
        # Runs and backfills send their own message before they end with these errors.
        *((bad_end(error=f"Daybook.{name}"), False) for name in ("Failed", "Rejected", "DatesFailed")),
        (bad_end(status="SUCCEEDED"), False),
        (bad_end("other"), False),
        # The caller's input does not suppress the report.
        (bad_end(input='{"part_of": "backfill-2025-11-01-2025-11-30-1"}'), True),
        (bad_end(status="ABORTED", input='{"note": "\\"part_of\\""}'), True),
    ],
)
def test_unreported_failures_are_reported_by_rule(watch: Template, event: Dict[str, Any], reported: bool) -> None:
    rule = watch.resources["BadEnds"]["Properties"]
    assert matches(rule["EventPattern"], event) is reported
    assert [each["Arn"] for each in rule["Targets"]] == [list_exports()["daybook-prod-TopicArn"]]


def test_rule_knows_every_state_machine() -> None:
    machines = Template("pipeline").of_type("AWS::StepFunctions::StateMachine").values()
    assert {f"daybook-prod-{machine}" for machine in MACHINES} == {each["StateMachineName"] for each in machines}


AFTER_NOTIFY = {"ReadRangeOutcome", "RangeOutcome", "Halves"}


def test_states_of_a_range_follow_its_last_job() -> None:
    states = load_machine("daily")["States"]
    for state in AFTER_NOTIFY:
        assert leading_to(states, state) <= {"Outcome", *AFTER_NOTIFY}


def test_rule_ignores_failures_with_own_message_only(watch: Template) -> None:
    # The machine reaches these errors only through its last job, which has sent the message.
    (bad,) = [each for each in watch.resources["BadEnds"]["Properties"]["EventPattern"]["detail"]["$or"] if "error" in each]
    assert bad["error"][0] == {"exists": False}
    (left,) = [each["anything-but"] for each in bad["error"][1:]]
    reached = {}
    for name, last in (("daily", "Notify"), ("backfill", "Summarise")):
        states = load_machine(name)["States"]
        for state, each in states.items():
            if each["Type"] == "Fail" and each["Error"] in left:
                # What follows the last job reads how a range ended, and runs its halves, which send their own messages.
                assert "Outcome" in leading_to(states, state) <= {"Outcome", *AFTER_NOTIFY}
                assert leading_to(states, "Outcome") == {last}
                assert last not in caught_to(states, "Outcome")
                assert states["Outcome"]["Choices"][0]["Condition"] == "{% $jobRunState != 'SUCCEEDED' %}"
                reached[each["Error"]] = name
    assert set(reached) == set(left)
    # The rule reports all others.
    others = {
        each["Error"]
        for name in ("daily", "backfill", "catch_up", "nightly")
        for each in load_machine(name)["States"].values()
        if each["Type"] == "Fail"
    } - set(left)
    assert {"Daybook.NotifyFailed", "Daybook.SummaryFailed", "Daybook.NotStarted"} <= others


def leading_to(states: Dict[str, Any], wanted: str) -> Set[str]:
    """Return the states that can be followed by ``name``."""
    return {
        name
        for name, each in states.items()
        if wanted in (each.get("Next"), each.get("Default"))
        or any(found["Next"] == wanted for found in (*each.get("Choices", []), *each.get("Catch", [])))
    }


def caught_to(states: Dict[str, Any], wanted: str) -> Set[str]:
    """Return the states whose Catch leads to ``name``."""
    return {name for name, each in states.items() if any(found["Next"] == wanted for found in each.get("Catch", []))}


def test_rule_message_is_text_with_event_details(watch: Template) -> None:
    (target,) = watch.resources["BadEnds"]["Properties"]["Targets"]
    text = target["InputTransformer"]["InputTemplate"]
    assert text.startswith('"') and text.endswith('"') and text.count('"') == 2
    for name in target["InputTransformer"]["InputPathsMap"]:
        assert f"<{name}>" in text
