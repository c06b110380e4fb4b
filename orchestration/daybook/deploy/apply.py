"""Bringing an account to what the checkout says: all changes worked out first, then made stack by stack."""

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
    """One stack of a deployment. Without a ``change_set``, ``changes`` is what the template would make (there is no stack yet),
    or empty: nothing to change."""

    template: Template
    state: StackState
    change_set: Optional[ChangeSet]
    changes: list[Change]

    @property
    def is_unchanged(self) -> bool:
        return not self.changes and self.change_set is None

    @property
    def precedes_release(self) -> bool:
        """Whether the bucket that a release is put into needs it."""
        return self.template.name in RETAINED_STACKS


def require_valid_parameters(templates: Sequence[Template], values: Mapping[str, str], stacks: Stacks) -> list[StackState]:
    """How all stacks are; every parameter is held to its template before anything is started. Raises ``UsageError``."""
    states = [stacks.describe_stack(each) for each in templates]
    for template, state in zip(templates, states):
        build_parameters(template, values, state.parameters)
    return states


def plan_deployment(stacks: Stacks, templates: Sequence[Template], values: Mapping[str, str], *, dry_run: bool) -> list[Step]:
    """Work out what a deployment changes. The steps hold change sets that are to be carried out, or withdrawn.

    A stack that is not there can only be worked out by CloudFormation once those before it are; until then, what it would make
    is in its template. ``dry_run`` asks nevertheless for the first such one, whose change set says more.
    """
    states = require_valid_parameters(templates, values, stacks)
    steps: list[Step] = []
    try:
        for template, state in zip(templates, states):
            whole = all(each.state.exists for each in steps)
            if state.exists or (dry_run and whole and not state.status):
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
        # Without a change set, which who deploys may not ask for here.
        return Step(template, state, None, [])
    try:
        proposed = stacks.create_change_set(template, parameters, state)
    except AwsError as error:
        if template.name == ADMIN_STACK and cause_code(error) in ACCESS_DENIED_CODES:
            raise DeploymentError(
                f"{state.name} differs from infra/{template.name}.yaml and only an administrator changes it; let one run this "
                f"with --stack {template.name}, or name the other stacks by --stack."
            ) from error
        raise
    return Step(template, state, proposed, proposed.changes if proposed else [])


def _is_up_to_date(stacks: Stacks, template: Template, parameters: list[dict[str, str]], state: StackState) -> bool:
    said = {each["ParameterKey"]: each["ParameterValue"] for each in parameters if "ParameterValue" in each}
    return all(state.parameters.get(key) == value for key, value in said.items()) and (
        stacks.read_deployed_template(template).strip() == template.text.strip()
    )


def cause_code(error: AwsError) -> str:
    """The short name of the refusal that an error tells of; empty where it was none."""
    return error_code(error.__cause__) if hasattr(error.__cause__, "response") else ""


def apply_step(stacks: Stacks, step: Step, values: Mapping[str, str], watch: EventCallback) -> None:
    """Make one step's changes; those of a stack that was not there are worked out now, when what it needs is."""
    change_set = step.change_set
    if change_set is None and step.changes:
        state = stacks.describe_stack(step.template)
        change_set = stacks.create_change_set(step.template, build_parameters(step.template, values, state.parameters), state)
    if change_set is not None:
        stacks.carry_out(change_set, watch)


def delete_change_sets(stacks: Stacks, steps: Iterable[Step]) -> None:
    """Remove the change sets of steps that are not made."""
    for step in steps:
        if step.change_set is not None:
            stacks.withdraw(step.change_set, step.template)
