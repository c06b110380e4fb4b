"""Plan and apply a deployment, one CloudFormation stack after another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from daybook.deploy.change_sets import ChangeSet, EventCallback, Stacks, StackState
from daybook.deploy.diff import Change, list_additions
from daybook.deploy.templates import ADMIN_STACK, RETAINED_STACKS, Template, build_parameters
from daybook.errors import AwsError, DeploymentError
from daybook.execution.aws.account import ACCESS_DENIED_CODES, error_code


@dataclass(frozen=True)
class Step:
    """The change of one stack.

    Without ``change_set``, ``changes`` are the resources of the template if the stack does not exist yet, or empty if the
    stack is unchanged.
    """

    template: Template
    state: StackState
    change_set: Optional[ChangeSet]
    changes: list[Change]

    @property
    def is_unchanged(self) -> bool:
        return not self.changes and self.change_set is None

    @property
    def precedes_release(self) -> bool:
        """Whether the bucket for releases depends on the stack."""
        return self.template.name in RETAINED_STACKS


def require_valid_parameters(templates: Sequence[Template], values: Mapping[str, str], stacks: Stacks) -> list[StackState]:
    """Return the states of all stacks after checking every parameter against its template.

    Raises
    ------
    UsageError
        A parameter is missing or invalid.
    """
    states = [stacks.describe_stack(each) for each in templates]
    for template, state in zip(templates, states):
        build_parameters(template, values, state.parameters)
    return states


def plan_deployment(stacks: Stacks, templates: Sequence[Template], values: Mapping[str, str], *, dry_run: bool) -> list[Step]:
    """Return the changes of a deployment, one step for each stack.

    The caller must execute or delete the change sets of the steps. CloudFormation can create a change set for a new stack
    only if the stacks before it exist; until then, the changes are taken from its template. ``dry_run`` creates a change set
    also for the first new stack, because it has more details than the template.
    """
    states = require_valid_parameters(templates, values, stacks)
    steps: list[Step] = []
    try:
        for template, state in zip(templates, states):
            previous_exist = all(each.state.exists for each in steps)
            if state.exists or (dry_run and previous_exist and not state.status):
                steps.append(_plan_step(stacks, template, values, state))
            else:
                steps.append(Step(template, state, None, list_additions(template)))
    except BaseException:
        delete_change_sets(stacks, steps)
        raise
    return steps


def _plan_step(stacks: Stacks, template: Template, values: Mapping[str, str], state: StackState) -> Step:
    parameters = build_parameters(template, values, state.parameters)
    if template.name == ADMIN_STACK and state.exists and _is_up_to_date(stacks, template, parameters, state):
        return Step(template, state, None, [])  # The deployer's role may not create change sets of this stack.
    try:
        change_set = stacks.create_change_set(template, parameters, state)
    except AwsError as error:
        if template.name == ADMIN_STACK and cause_code(error) in ACCESS_DENIED_CODES:
            raise DeploymentError(
                f"{state.name} differs from infra/{template.name}.yaml, and only an administrator can change it; run `daybook "
                f"deploy --stack {template.name}` as an administrator, or give the other stacks with --stack."
            ) from error
        raise
    return Step(template, state, change_set, change_set.changes if change_set else [])


def _is_up_to_date(stacks: Stacks, template: Template, parameters: list[dict[str, str]], state: StackState) -> bool:
    changed = {each["ParameterKey"]: each["ParameterValue"] for each in parameters if "ParameterValue" in each}
    return changed.items() <= state.parameters.items() and (
        stacks.read_deployed_template(template).strip() == template.text.strip()
    )


def cause_code(error: AwsError) -> str:
    """Return the AWS error code of the error's cause, or an empty string."""
    return error_code(error.__cause__) if hasattr(error.__cause__, "response") else ""


def apply_step(stacks: Stacks, step: Step, values: Mapping[str, str], watch: EventCallback) -> None:
    """Apply one step. For a new stack, the change set is created here, since the stacks before it now exist."""
    change_set = step.change_set
    if change_set is None and step.changes:
        state = stacks.describe_stack(step.template)
        change_set = stacks.create_change_set(step.template, build_parameters(step.template, values, state.parameters), state)
    if change_set is not None:
        stacks.execute_change_set(change_set, watch)


def delete_change_sets(stacks: Stacks, steps: Iterable[Step]) -> None:
    """Delete the change sets of ``steps``, which are not applied."""
    for step in steps:
        if step.change_set is not None:
            stacks.delete_change_set(step.change_set, step.template)
