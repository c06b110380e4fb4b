"""A release's names are made of what is in it."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from daybook.deploy.release import Release, plan_release
from daybook.errors import BundleError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Some bytes under the name that a bundle of them has."""
    content = b"stands for a bundle"
    path = tmp_path / f"daybook-{hashlib.sha256(content).hexdigest()[:16]}.zip"
    path.write_bytes(content)
    return path


@pytest.fixture
def release(project, bundle: Path):
    """``release()``: the release of the project's copy as it is now."""
    real = Path(__file__).resolve().parents[2]
    shutil.copytree(real / "infra", project.root / "infra")
    shutil.copy(real / "orchestration" / "glue_bootstrap.py", project.root / "orchestration")

    def call() -> Release:
        return plan_release("code", bundle)

    return call


def test_it_holds_what_jobs_and_machines_start_from_and_the_templates(release) -> None:
    found = release()
    names = {re.sub(r"[0-9a-f]{16}", "#", each.key) for each in found.items}
    machines = ("backfill", "catch_up", "daily", "nightly")
    stacks = ("deployer", "foundation", "catalogue", "pipeline", "watch")
    assert names == {
        "bundles/daybook-#.zip",
        "releases/#/orchestration/glue_bootstrap.py",
        *(f"releases/#/orchestration/{name}.asl.json" for name in machines),
        *(f"templates/#/{name}.yaml" for name in stacks),
    }
    assert found.parameters() == {"CodePrefix": found.prefix, "BundleUri": f"s3://code/{found.bundle.key}"}


def test_the_same_files_have_the_same_names(release) -> None:
    assert release() == release()


def test_another_state_machine_is_another_prefix_and_no_other_name(release, project) -> None:
    before = release()
    project.replace("orchestration/daily.asl.json", "One business day", "A business day")
    after = release()
    assert before.prefix != after.prefix
    assert {each.key for each in before.items} & {each.key for each in after.items} == {
        each.key for each in before.items if not each.key.startswith("releases/")
    }


def test_another_template_is_another_template_and_starts_no_job_anew(release, project) -> None:
    before = release()
    project.replace("infra/watch.yaml", "Daybook, what watches", "Daybook, what looks")
    assert before.parameters() == release().parameters()
    assert len({each.key for each in before.items} ^ {each.key for each in release().items}) == 2


def test_a_bundle_under_another_name_than_its_own_is_refused(release, bundle: Path) -> None:
    bundle.write_bytes(b"cut short")
    with pytest.raises(BundleError, match="is not what its name says"):
        release()
