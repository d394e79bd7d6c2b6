from __future__ import annotations

from typing import Any

import pytest

from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.errors import CommitUnknown, StorageFull, StorageUnavailable
from lowcode_faas_core.meter import Meter
from lowcode_faas_core.readiness import Readiness


@pytest.mark.parametrize("target", ["/healthz", "/healthz?probe=1", "/readyz", "/readyz?x"])
def test_probes_are_answered(api: Any, target: str) -> None:
    assert api.get(target).status == 200


def test_metrics_count_what_was_invoked_and_deployed(api: Any, modules: dict[str, str]) -> None:
    api.deploy(source=modules["echo"])
    api.invoke()
    api.post("/functions/absent/invoke", {}).refused(404)
    answer = api.get("/metrics", headers={"Accept": "*/*"})
    assert answer.status == 200
    text = answer.body.decode()
    if answer.headers["Content-Type"].startswith("text/plain; version="):  # Prometheus's own
        labels = 'collection="",function="greet",status="succeeded"'
        assert f"faas_invocations_total{{{labels}}} 1.0\n" in text
        assert 'faas_deployments_total{outcome="created"} 1.0\n' in text
        assert "faas_inflight_invocations 0.0\n" in text
        assert "absent" not in text


def test_without_a_plugin_there_are_no_metrics(stub_api: Any) -> None:
    stub_api.services.meter = Meter()
    problem = stub_api.get("/metrics").refused(404, "not_found")
    assert "LOWCODE_FAAS_METRICS" in problem["detail"]


def test_readiness_names_what_limps(stub_api: Any) -> None:
    stub_api.services.readiness.append(
        Readiness(ok=True, degraded=["the log sink loki is down"], sandboxes={"idle": 2})
    )

    assert stub_api.get("/readyz").json == {
        "status": "ready",
        "reasons": [],
        "degraded": ["the log sink loki is down"],
        "sandboxes": {"idle": 2},
    }


def test_unreadiness_names_every_reason(stub_api: Any) -> None:
    reasons = ["the storage is unavailable", "the runner is unavailable"]
    stub_api.services.readiness.append(Readiness(ok=False, reasons=reasons, sandboxes={"idle": 0}))

    problem = stub_api.get("/readyz").refused(503, "not_ready")
    assert problem["reasons"] == reasons
    assert problem["degraded"] == []
    assert problem["sandboxes"] == {"idle": 0}
    assert stub_api.get("/healthz").json == {"status": "ok"}


def test_limits_are_shown(stub_api: Any) -> None:
    document = stub_api.get("/limits").json
    settings = LimitSettings()

    assert document["function"] == {
        "memory_mb": {"default": 256, "max": 2048},
        "cpus": {"default": 1.0, "max": 4.0},
        "pids": {"default": 64, "max": 512},
        "tmp_mb": {"default": 64, "max": 1024},
        "timeout_ms": {"default": 120_000, "max": 900_000},
    }
    for key in ("body_bytes", "source_bytes", "input_bytes", "output_bytes", "env_bytes"):
        assert document["request"][key] == getattr(settings, key)


def test_request_ids_are_kept_when_legal(api: Any) -> None:
    for given in ("a", "A.b_c:d-1", "x" * 128):
        headers = {"X-Request-Id": given}
        assert api.get("/healthz", headers=headers).headers["X-Request-Id"] == given
        assert api.get("/nothing", headers=headers).refused(404)["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "\u00e9", "a\n", "<script>", "a,b"])
def test_request_ids_are_replaced_when_illegal(stub_api: Any, given: str) -> None:
    found = {stub_api.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"]}
    found.add(stub_api.get("/healthz").headers["X-Request-Id"])

    assert len(found) == 2
    assert all(len(request_id) == 36 for request_id in found)


@pytest.mark.parametrize(
    ("error", "status", "code", "outcome"),
    [
        (StorageUnavailable("the disk is read-only"), 503, "storage_unavailable", "not_executed"),
        (CommitUnknown(), 503, "storage_unavailable", "unknown"),
        (StorageFull(), 507, "storage_full", "not_executed"),
    ],
)
def test_faults_of_the_storage_are_told(
    stub_api: Any, error: Exception, status: int, code: str, outcome: str
) -> None:
    stub_api.deploy()
    stub_api.storage.fail_with = error
    answer = stub_api.post("/functions", {"name": "other", "source_code": "x"})

    assert answer.refused(status, code)["outcome"] == outcome
    assert stub_api.get("/healthz").status == 200


def test_a_corrupt_source_is_told(stub_api: Any) -> None:
    deployment = stub_api.deploy()
    stub_api.storage.sources[deployment["deployment_id"]] = b"damaged"

    stub_api.get("/functions/greet/source").refused(500, "source_corrupt")
    invoked = stub_api.post("/functions/greet/invoke", {})
    assert invoked.refused(500, "source_corrupt")["outcome"] == "not_executed"


def test_an_unforeseen_error_tells_nothing_of_itself(
    stub_api: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("hunter2")

    monkeypatch.setattr(stub_api.storage, "functions", fail)
    answer = stub_api.get("/functions")

    problem = answer.refused(500, "internal_error")
    assert b"hunter2" not in answer.body
    assert "outcome" not in problem
    assert problem["request_id"] in caplog.text
