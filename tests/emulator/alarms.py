"""Add missing-data treatment and metric expressions to the emulator's alarms, as far as ``infra/`` needs them.

It follows CloudWatch's guide ("Configuring how alarms treat missing data", "Using math expressions"). Alarms are evaluated when
any metric is sent. The module runs in the Python environment of the emulator (``serve``).
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
    """Let the emulator's alarms use the clock ``now``, treat missing data and evaluate expressions."""
    cloudwatch.time = SimpleNamespace(time=now)
    evaluate, record = cloudwatch._evaluate_alarm, provisioners._cw_metric_alarm_record
    expressions: dict[str, list[dict[str, Any]]] = {}

    def record_expression(name: str, properties: dict[str, Any]) -> Any:
        if "Metrics" not in properties:
            return record(name, properties)
        # The emulator supports alarms on one metric only, so a placeholder metric without data is used.
        single = {"Namespace": "Expression", "MetricName": name, "Statistic": "Sum", "Period": 3600}
        made = record(name, {**{key: each for key, each in properties.items() if key != "Metrics"}, **single})
        expressions[made["AlarmArn"]] = properties["Metrics"]
        return made

    def set_state(alarm: dict[str, Any], state: Optional[str], reason: str) -> None:
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
                set_state(alarm, MISSING_DATA_STATES.get(alarm.get("TreatMissingData", "missing")), "No data.")
            else:
                over = COMPARISONS[alarm["ComparisonOperator"]](value, float(alarm["Threshold"]))
                set_state(alarm, "ALARM" if over else "OK", f"The expression is {value}.")
            return
        evaluate(alarm)
        times = [each["Timestamp"] for each in points(alarm.get("Namespace", ""), alarm.get("MetricName", ""))]
        window = alarm.get("Period", 60) * alarm.get("EvaluationPeriods", 1)
        if times and max(times) < now() - window:
            set_state(
                alarm, MISSING_DATA_STATES.get(alarm.get("TreatMissingData", "missing")), f"No data in the last {window} s."
            )

    cloudwatch._evaluate_alarm = evaluate_all
    provisioners._cw_metric_alarm_record = record_expression


def _evaluate_expression(
    metrics: list[dict[str, Any]], points: Callable[..., list[dict[str, Any]]], now: float
) -> Optional[float]:
    """Return the value of an alarm's expression over the last period; None if data are missing and not filled (FILL)."""
    values: dict[str, Optional[float]] = {}
    for each in metrics:
        if "MetricStat" in each:
            stat, metric = each["MetricStat"], each["MetricStat"]["Metric"]
            dimensions = {pair["Name"]: pair["Value"] for pair in metric.get("Dimensions", [])}
            found = points(metric["Namespace"], metric["MetricName"], dimensions)
            recent = [float(point["Value"]) for point in found if point["Timestamp"] >= now - stat["Period"]]
            values[each["Id"]] = STATISTICS[stat["Stat"]](recent) if recent else None
    (expression,) = [each["Expression"] for each in metrics if "Expression" in each]
    names = {"__builtins__": {}, "FILL": lambda value, instead: instead if value is None else value, **values}
    try:
        return float(eval(expression, names))  # noqa: S307 (expressions of the templates, valid in Python)
    except TypeError:  # arithmetic on missing data
        return None
