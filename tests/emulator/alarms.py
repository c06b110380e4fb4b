"""What the emulator's alarms are taught: absence that counts as an alarm says, and alarms on an expression over metrics.

Here: that, as CloudWatch's guide has it ("Configuring how alarms treat missing data", "Using math expressions"), for what the
templates in ``infra/`` say. Not here: serving the emulator (``serve``, whose Python this needs). Alarms are looked at when any
metric is told.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Callable, Optional

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
}
STATISTICS: dict[str, Callable[[list[float]], float]] = {"Sum": sum, "Maximum": max}
MISSING_DATA_STATES = {"breaching": "ALARM", "notBreaching": "OK"}


def patch_alarms(cloudwatch: Any, provisioners: Any, now: Callable[[], float]) -> None:
    """Have the emulator's alarms go by this clock, by what is absent, and by expressions."""
    cloudwatch.time = SimpleNamespace(time=now)
    evaluate, record = cloudwatch._evaluate_alarm, provisioners._cw_metric_alarm_record
    expressions: dict[str, list[dict[str, Any]]] = {}

    def record_expression(name: str, properties: dict[str, Any]) -> Any:
        if "Metrics" not in properties:
            return record(name, properties)
        # The emulator takes alarms on one metric only: this one has a name that nobody tells.
        single = {"Namespace": "Expression", "MetricName": name, "Statistic": "Sum", "Period": 3600}
        made = record(name, {**{key: each for key, each in properties.items() if key != "Metrics"}, **single})
        expressions[made["AlarmArn"]] = properties["Metrics"]
        return made

    def settle(alarm: dict[str, Any], state: Optional[str], reason: str) -> None:
        before = alarm["StateValue"]
        if state not in (None, before):
            alarm.update(StateValue=state, StateReason=reason, StateUpdatedTimestamp=int(now()))
            cloudwatch._record_history(alarm["AlarmName"], before, state, reason)
            cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)
            cloudwatch._evaluate_parent_alarms(alarm)

    def points(namespace: str, name: str, dimensions: Optional[dict[str, str]] = None) -> list[dict[str, Any]]:
        found = [each for key, some in cloudwatch._metrics.items() if key[:2] == (namespace, name) for each in some]
        return [each for each in found if dimensions is None or each["Dimensions"] == dimensions]

    def evaluate_all(alarm: dict[str, Any]) -> None:
        if alarm["AlarmArn"] in expressions:
            value = _evaluate_expression(expressions[alarm["AlarmArn"]], points, now())
            if value is None:
                settle(alarm, MISSING_DATA_STATES.get(alarm.get("TreatMissingData", "missing")), "No data.")
            else:
                over = COMPARISONS[alarm["ComparisonOperator"]](value, float(alarm["Threshold"]))
                settle(alarm, "ALARM" if over else "OK", f"The expression is {value}.")
            return
        evaluate(alarm)
        told = [each["Timestamp"] for each in points(alarm.get("Namespace", ""), alarm.get("MetricName", ""))]
        window = alarm.get("Period", 60) * alarm.get("EvaluationPeriods", 1)
        if told and max(told) < now() - window:
            settle(alarm, MISSING_DATA_STATES.get(alarm.get("TreatMissingData", "missing")), f"No data in the last {window} s.")

    cloudwatch._evaluate_alarm = evaluate_all
    provisioners._cw_metric_alarm_record = record_expression


def _evaluate_expression(
    metrics: list[dict[str, Any]], points: Callable[..., list[dict[str, Any]]], now: float
) -> Optional[float]:
    """An alarm's expression over the last period; None where what it needs is absent (FILL says what is used then)."""
    values: dict[str, Optional[float]] = {}
    for each in metrics:
        if "MetricStat" in each:
            told, wanted = each["MetricStat"], each["MetricStat"]["Metric"]
            dimensions = {pair["Name"]: pair["Value"] for pair in wanted.get("Dimensions", [])}
            found = points(wanted["Namespace"], wanted["MetricName"], dimensions)
            recent = [float(point["Value"]) for point in found if point["Timestamp"] >= now - told["Period"]]
            values[each["Id"]] = STATISTICS[told["Stat"]](recent) if recent else None
    (expression,) = [each["Expression"] for each in metrics if "Expression" in each]
    names = {"__builtins__": {}, "FILL": lambda value, instead: instead if value is None else value, **values}
    try:
        return float(eval(expression, names))  # noqa: S307  The templates' own, which are Python's as well.
    except TypeError:  # Arithmetic on what is absent.
        return None
