"""Test that the keys of a release depend on its content only."""

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
    """Write bytes with the name of a bundle."""
    content = b"stands for a bundle"
    path = tmp_path / f"daybook-{hashlib.sha256(content).hexdigest()[:16]}.zip"
    path.write_bytes(content)
    return path


@pytest.fixture
def release(project, bundle: Path):
    """Return a function that plans the release of the present state of the project's copy."""
    real = Path(__file__).resolve().parents[2]
    shutil.copytree(real / "infra", project.root / "infra")
    shutil.copy(real / "orchestration" / "glue_bootstrap.py", project.root / "orchestration")

    def call() -> Release:
        return plan_release("code", bundle)

    return call


def test_release_contains_bundle_machines_and_templates(release) -> None:
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


def test_same_files_have_same_keys(release) -> None:
    assert release() == release()


def test_changed_state_machine_changes_prefix_only(release, project) -> None:
    before = release()
    project.replace("orchestration/daily.asl.json", "One run of a business date", "A run of a business date")
    after = release()
    assert before.prefix != after.prefix
    assert {each.key for each in before.items} & {each.key for each in after.items} == {
        each.key for each in before.items if not each.key.startswith("releases/")
    }


def test_changed_template_changes_its_key_only(release, project) -> None:
    before = release()
    project.replace("infra/watch.yaml", "Daybook watch", "Daybook monitoring")
    assert before.parameters() == release().parameters()
    assert len({each.key for each in before.items} ^ {each.key for each in release().items}) == 2


def test_bundle_with_wrong_name_is_rejected(release, bundle: Path) -> None:
    bundle.write_bytes(b"cut short")
    with pytest.raises(BundleError, match="does not match its name"):
        release()
