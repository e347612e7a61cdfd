"""The image, the Compose file and the manifests say what docs/container.md promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mailferry.config.loading import load_settings

ROOT = Path(__file__).parents[3]
CONTAINER, KUBERNETES = ROOT / "deploy" / "container", ROOT / "deploy" / "kubernetes"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def stages() -> tuple[list[str], list[str]]:
    lines = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
    orders = [line for line in lines if line and not line.startswith("#")]
    last = max(number for number, line in enumerate(orders) if line.startswith("FROM"))
    return orders[:last], orders[last:]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_the_last_stage_is_bare_and_not_root() -> None:
    _, last = stages()
    text = "\n".join(last)
    assert "USER 10001:10001" in last
    assert not [line for line in last if line.startswith("RUN")]
    for order in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        assert [line for line in last if line.startswith(order)], order
    assert 'CMD ["mailferry", "healthcheck"]' in text
    assert 'ENTRYPOINT ["mailferry"]' in last


def test_every_package_is_held_to_its_hash() -> None:
    first, _ = stages()
    installs = [part for line in first for part in line.split("&&") if "pip install" in part]
    assert installs
    assert all("--require-hashes" in part or "--no-index" in part for part in installs)


def test_what_the_image_copies_is_let_through_to_the_builder() -> None:
    let_through = [
        line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"
    ]
    first, _ = stages()
    copied = [name for line in first if line.startswith("COPY") for name in line.split()[1:-1]]
    assert copied
    for name in copied:
        assert any(name == each or each.startswith(f"{name}/") for each in let_through), name
        assert (ROOT / name).exists()


def test_compose_mounts_what_is_there() -> None:
    services = read(CONTAINER / "compose.yaml")["services"]
    mounts = [mount.split(":")[0] for each in services.values() for mount in each["volumes"]]
    outside = [CONTAINER / mount for mount in mounts if mount.startswith("../")]
    assert len(outside) == 2
    assert [path for path in outside if not path.resolve().is_file()] == []
    assert (CONTAINER / services["mailferry"]["build"] / "Dockerfile").is_file()


@pytest.mark.parametrize("name", ["sandbox", "sandbox-mailferry"])
def test_compose_lets_the_daemon_see_what_the_sandbox_writes(name: str) -> None:
    service = read(CONTAINER / "compose.yaml")["services"][name]
    (mount,) = service["volumes"]
    volume, _, place = mount.partition(":")
    assert volume == "sandbox"
    (folder,) = [word for word in service["command"] if word.startswith("/")]
    assert Path(folder).is_relative_to(place)


@pytest.mark.parametrize("name", ["mailferry", "sandbox", "sandbox-mailferry"])
def test_compose_runs_it_without_privileges(name: str) -> None:
    service = read(CONTAINER / "compose.yaml")["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["stop_grace_period"].rstrip("s")) > 20
    assert [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")] == []


def pod() -> Any:
    return read(KUBERNETES / "statefulset.yaml")["spec"]["template"]["spec"]


def test_the_pod_keeps_to_the_restricted_standard() -> None:
    (container,) = pod()["containers"]
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        "state",
        *(v["name"] for v in pod()["volumes"]),
    }


def test_there_is_one_daemon_and_its_name_fits_everywhere() -> None:
    workload = read(KUBERNETES / "statefulset.yaml")
    labels = workload["spec"]["template"]["metadata"]["labels"]
    service = read(KUBERNETES / "service.yaml")
    assert workload["spec"]["replicas"] == 1
    assert service["metadata"]["name"] == workload["spec"]["serviceName"] == "mailferry"  # the alerts' job
    assert service["spec"]["selector"] == labels == workload["spec"]["selector"]["matchLabels"]
    assert read(KUBERNETES / "networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    assert read(KUBERNETES / "servicemonitor.yaml")["spec"]["selector"]["matchLabels"] == labels


def test_the_kustomization_names_the_files_that_are_there() -> None:
    kustomization = read(KUBERNETES / "kustomization.yaml")
    named = {
        *kustomization["resources"],
        *kustomization["configMapGenerator"][0]["files"],
        "servicemonitor.yaml",
    }
    assert named | {"kustomization.yaml"} == {path.name for path in KUBERNETES.iterdir()}


def test_its_configuration_is_valid(tmp_path: Path) -> None:
    """With the secrets where the pod mounts them."""
    text = (KUBERNETES / "mailferry.toml").read_text("utf-8")
    for name in ("alice", "relay"):
        (tmp_path / name).write_text("an invented password\n", "utf-8")
        (tmp_path / name).chmod(0o600)
    config = tmp_path / "mailferry.toml"
    config.write_text(text.replace("/run/secrets/mailferry", str(tmp_path)), "utf-8")
    settings = load_settings(config, environ={})
    (port,) = pod()["containers"][0]["ports"]
    assert settings.http.port == port["containerPort"]
