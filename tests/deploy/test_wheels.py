"""Test which wheels Glue Python shell can load."""

from __future__ import annotations

import pytest

from daybook.deploy.wheels import Distribution, is_loadable, require_loadable
from daybook.errors import BundleError


@pytest.mark.parametrize(
    "tag",
    [
        *("py3-none-any", "py39-none-any", "cp39-none-any", "py36-none-any"),
        *("cp39-cp39-manylinux2014_x86_64", "cp39-cp39-manylinux_2_17_x86_64", "cp39-cp39-manylinux_2_5_x86_64"),
        *("cp39-abi3-manylinux2014_x86_64", "cp36-abi3-manylinux_2_12_x86_64", "cp39-cp39-manylinux1_x86_64"),
        *("py3-none-manylinux2010_x86_64", "cp38-abi3-manylinux2010_x86_64"),
    ],
)
def test_tags_of_glue_python_shell_are_loadable(tag: str) -> None:
    assert is_loadable(tag)


@pytest.mark.parametrize(
    "tag",
    [
        *("cp310-cp310-manylinux2014_x86_64", "cp310-abi3-manylinux2014_x86_64", "cp38-cp38-manylinux2014_x86_64"),
        *("cp39-cp39-manylinux_2_18_x86_64", "cp39-cp39-manylinux_2_28_x86_64", "cp39-cp39-linux_x86_64"),
        *("cp39-cp39-manylinux2014_aarch64", "cp39-cp39-musllinux_1_1_x86_64", "cp39-cp39-macosx_11_0_arm64"),
        *("py2-none-any", "py310-none-any", "cp39-cp39-manylinux2020_x86_64", "pp39-pypy39_pp73-manylinux2014_x86_64"),
    ],
)
def test_tags_of_other_platforms_are_not_loadable(tag: str) -> None:
    assert not is_loadable(tag)


def test_wheel_without_loadable_tag_is_rejected() -> None:
    require_loadable([Distribution("a", "1", ("cp39-cp39-manylinux2014_x86_64", "cp39-cp39-manylinux_2_28_x86_64"))])
    with pytest.raises(BundleError, match=r"wheel of b 2 is for cp39-cp39-manylinux_2_28_x86_64, and Python 3\.9"):
        require_loadable([Distribution("b", "2", ("cp39-cp39-manylinux_2_28_x86_64",))])
