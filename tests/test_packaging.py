"""What stands around the package: requirements, scripts, what git holds."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mrcnn

ROOT = Path(__file__).parents[1]
REQUIREMENT = re.compile(r"^([A-Za-z0-9-]+)>=[\d.]+(,[<!]=?[\d.]+)*$")
# Modules whose distribution goes by another name.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "imgaug": "imaug",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}
# Imported where they are used, if they are installed.
OPTIONAL = {
    "IPython",
    "albumentations",
    "faster_coco_eval",
    "jax",
    "pandas",
    "pyarrow",
    "rasterio",
    "ray",
    "roifile",
    "safetensors",
    "torch",
}


def requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def third_party_modules() -> set[str]:
    modules = set()
    for path in (ROOT / "mrcnn").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.split(".")[0])
    return modules - set(sys.stdlib_module_names) - {"mrcnn"} - OPTIONAL


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", mrcnn.__version__)


def test_requirements_have_a_lower_bound_and_no_pin():
    assert [line for line in requirements() if not REQUIREMENT.match(line)] == []


def test_requirements_cover_what_the_package_imports():
    names = {REQUIREMENT.match(line).group(1) for line in requirements()}
    assert {DISTRIBUTIONS.get(module, module) for module in third_party_modules()} <= names


@pytest.mark.parametrize("path", ["scripts/setup_venv.sh", "scripts/test.sh", "scripts/demo.sh"])
def test_scripts_parse(path):
    subprocess.run(["bash", "-n", ROOT / path], check=True)


@pytest.fixture
def checkout(tmp_path):
    """A folder whose name has a space, with what setup_venv.sh reads."""
    folder = tmp_path / "a checkout"
    (folder / "scripts").mkdir(parents=True)
    for name in ("pyproject.toml", "requirements.txt", "scripts/setup_venv.sh"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def setup_venv(checkout, *arguments, **environment):
    command = ["bash", str(checkout / "scripts" / "setup_venv.sh"), *arguments]
    environment = {**os.environ, **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")


def fake_python(checkout, log):
    """A .venv whose Python only writes down what it was asked to do."""
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >>"{log}"\n', encoding="utf-8")
    python.chmod(0o755)


def test_setup_installs_once_until_the_requirements_change(checkout, tmp_path):
    log = tmp_path / "log"
    fake_python(checkout, log)

    def installs():
        before = log.read_text(encoding="utf-8").count("pip install") if log.exists() else 0
        assert setup_venv(checkout).returncode == 0
        return log.read_text(encoding="utf-8").count("pip install") - before

    assert installs() == 1
    assert installs() == 0
    with open(checkout / "requirements.txt", "a", encoding="utf-8") as file:
        file.write("another>=1\n")
    assert installs() == 1


def test_setup_for_tests_serves_the_demo_but_not_the_other_way_round(checkout, tmp_path):
    log = tmp_path / "log"
    fake_python(checkout, log)
    for arguments, expected in (((), 1), (("test",), 2), ((), 2), (("test",), 2)):
        assert setup_venv(checkout, *arguments).returncode == 0
        assert log.read_text(encoding="utf-8").count("pip install") == expected
    assert f"--editable {checkout}[test]" in log.read_text(encoding="utf-8")


def test_setup_names_a_python_that_will_not_do(checkout):
    result = setup_venv(checkout, PYTHON="false")
    assert result.returncode == 1
    assert "PYTHON=false is not Python 3.10 to 3.13" in result.stderr
    assert not (checkout / ".venv").exists()


def test_the_code_in_the_readme_imports_what_there_is():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    imports = [
        node for node in ast.parse(code).body if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    exec(compile(ast.Module(imports, []), "README.md", "exec"), {})


def test_files_named_in_the_readme_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", readme)
    assert links and [link for link in links if not (ROOT / link).exists()] == []
