"""Bringing an account to what the checkout says: all changes worked out first, then made stack by stack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from daybook.deploy.change_sets import ChangeSet, Stacks, StackState, Watch
from daybook.deploy.diff import Change, would_add
from daybook.deploy.templates import ADMINISTRATORS, KEPT, Template, parameters_of
from daybook.errors import AwsError, DeploymentError
from daybook.execution.aws.account import REFUSED, code_of


@dataclass(frozen=True)
class Step:
    """One stack of a deployment. Without a ``change_set``, ``changes`` is what the template would make (there is no stack yet),
    or empty: nothing to change."""

    template: Template
    state: StackState
    change_set: Optional[ChangeSet]
    changes: list[Change]

    @property
    def changes_nothing(self) -> bool:
        return not self.changes and self.change_set is None

    @property
    def before_release(self) -> bool:
        """Whether the bucket that a release is put into needs it."""
        return self.template.name in KEPT


def require_ahead(templates: Sequence[Template], values: Mapping[str, str], stacks: Stacks) -> list[StackState]:
    """How all stacks are; every parameter is held to its template before anything is started. Raises ``UsageError``."""
    states = [stacks.state_of(each) for each in templates]
    for template, state in zip(templates, states):
        parameters_of(template, values, state.parameters)
    return states


def plan(stacks: Stacks, templates: Sequence[Template], values: Mapping[str, str], *, dry_run: bool) -> list[Step]:
    """Work out what a deployment changes. The steps hold change sets that are to be carried out, or withdrawn.

    A stack that is not there can only be worked out by CloudFormation once those before it are; until then, what it would make
    is in its template. ``dry_run`` asks nevertheless for the first such one, whose change set says more.
    """
    states = require_ahead(templates, values, stacks)
    steps: list[Step] = []
    try:
        for template, state in zip(templates, states):
            whole = all(each.state.is_there for each in steps)
            if state.is_there or (dry_run and whole and not state.status):
                steps.append(_worked_out(stacks, template, values, state))
            else:
                steps.append(Step(template, state, None, would_add(template)))
    except BaseException:
        withdraw(stacks, steps)
        raise
    return steps


def _worked_out(stacks: Stacks, template: Template, values: Mapping[str, str], state: StackState) -> Step:
    parameters = parameters_of(template, values, state.parameters)
    if template.name == ADMINISTRATORS and state.is_there and _is_as_said(stacks, template, parameters, state):
        # Without a change set, which who deploys may not ask for here.
        return Step(template, state, None, [])
    try:
        proposed = stacks.propose(template, parameters, state)
    except AwsError as error:
        if template.name == ADMINISTRATORS and code_of_cause(error) in REFUSED:
            raise DeploymentError(
                f"{state.name} differs from infra/{template.name}.yaml and only an administrator changes it; let one run this "
                f"with --stack {template.name}, or name the other stacks by --stack."
            ) from error
        raise
    return Step(template, state, proposed, proposed.changes if proposed else [])


def _is_as_said(stacks: Stacks, template: Template, parameters: list[dict[str, str]], state: StackState) -> bool:
    said = {each["ParameterKey"]: each["ParameterValue"] for each in parameters if "ParameterValue" in each}
    return all(state.parameters.get(key) == value for key, value in said.items()) and (
        stacks.template_of(template).strip() == template.text.strip()
    )


def code_of_cause(error: AwsError) -> str:
    """The short name of the refusal that an error tells of; empty where it was none."""
    return code_of(error.__cause__) if hasattr(error.__cause__, "response") else ""


def carry_out(stacks: Stacks, step: Step, values: Mapping[str, str], watch: Watch) -> None:
    """Make one step's changes; those of a stack that was not there are worked out now, when what it needs is."""
    change_set = step.change_set
    if change_set is None and step.changes:
        state = stacks.state_of(step.template)
        change_set = stacks.propose(step.template, parameters_of(step.template, values, state.parameters), state)
    if change_set is not None:
        stacks.carry_out(change_set, watch)


def withdraw(stacks: Stacks, steps: Iterable[Step]) -> None:
    """Remove the change sets of steps that are not made."""
    for step in steps:
        if step.change_set is not None:
            stacks.withdraw(step.change_set, step.template)
