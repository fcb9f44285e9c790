"""Tells the cluster of the last checkpoint, where the process runs in a pod: a CheckpointReport named as the pod.

The service account may not do so, the cluster has no such kind, or nobody answers: training never waits for it, and goes on.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

log = logging.getLogger("bedplate")

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts the credentials of a pod (Kubernetes, "Accessing the Kubernetes API from a Pod")."""
KIND = "CheckpointReport"
PATIENCE = 5.0
"""Seconds that a request may take."""


class Reporter:
    """One at a time is on its way; of several that wait, the newest is sent."""

    def __init__(self, account: Path, host: str, port: str) -> None:
        self._account = account
        self._server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        self._namespace = (account / "namespace").read_text().strip()
        # A token that is bound to its pod names it (KEP-1205); the host's name may be another one.
        payload = self._token().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["kubernetes.io"]
        self._pod, self._uid = claims["pod"]["name"], claims["pod"]["uid"]
        self._lock = threading.Lock()
        self._next: dict[str, Any] | None = None
        self._thread: threading.Thread | None = None
        self._refused = False

    @classmethod
    def of_this_pod(cls) -> Reporter | None:
        """Nothing outside of a pod, and in one without credentials (`automountServiceAccountToken: false`)."""
        try:
            return cls(ACCOUNT, os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443"))
        except (OSError, LookupError, TypeError, ValueError):
            return None

    def tell(self, **spec: Any) -> None:
        """Sends this, and returns at once."""
        with self._lock:
            self._next = {name: value for name, value in spec.items() if value is not None}
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_all, name="bedplate-report", daemon=True)
                self._thread.start()

    def close(self, patience: float) -> None:
        """Waits a moment for what is on its way."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(patience)

    def _send_all(self) -> None:
        while True:
            with self._lock:
                spec, self._next = self._next, None
                if spec is None:
                    self._thread = None
                    return
            try:
                self._send(spec)
            except Exception as error:  # noqa: BLE001 a report costs no training
                log.debug("the cluster was not told of the checkpoint: %s", error)

    def _token(self) -> str:
        # Read anew each time: the kubelet replaces it.
        return (self._account / "token").read_text().strip()

    def grace(self, patience: float) -> float | None:
        """Seconds between the notice and the kill of this pod, where its service account may read it."""
        try:
            pod = json.loads(self._ask("GET", f"api/v1/namespaces/{self._namespace}/pods/{self._pod}", patience))
            return float(pod["spec"]["terminationGracePeriodSeconds"])
        except Exception as error:  # noqa: BLE001 as for a report
            log.debug("the grace of the pod cannot be read: %s", error)
            return None

    def _send(self, spec: dict[str, Any]) -> None:
        group = "bedplate.dev/v1alpha1"
        report = {
            "apiVersion": group,
            "kind": KIND,
            "metadata": {
                "name": self._pod,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": self._pod, "uid": self._uid}],
            },
            "spec": spec,
        }
        where = f"apis/{group}/namespaces/{self._namespace}/checkpointreports/{self._pod}"
        try:
            self._ask("PATCH", f"{where}?fieldManager=bedplate-guard&force=true", PATIENCE, report)
        except PermissionError:
            if self._refused:
                return
            self._refused = True
            log.info(
                "the cluster is not told of checkpoints: this pod's service account may not. To let it: kubectl create "
                "rolebinding bedplate-checkpoint-reporter --namespace=%s --clusterrole=bedplate-checkpoint-reporter "
                "--group=system:serviceaccounts:%s",
                self._namespace,
                self._namespace,
            )

    def _ask(self, method: str, path: str, patience: float, body: Any = None) -> bytes:
        # Not every process needs them, nor every image has them.
        import ssl
        import urllib.error
        import urllib.request

        request = urllib.request.Request(
            f"{self._server}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self._token()}", "Content-Type": "application/apply-patch+yaml"},
        )
        context = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
        # The API server is no matter of a proxy.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        try:
            with opener.open(request, timeout=patience) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if error.code == 403:
                raise PermissionError(str(error)) from error
            raise


def moment(seconds: float) -> str:
    """RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def pods(world_size: int) -> int:
    """In how many pods the ranks are, by what the launcher says of this one."""
    for name in ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"):
        local = os.environ.get(name, "")
        if local.isdigit() and int(local) > 0:
            return max(1, world_size // int(local))
    return world_size
