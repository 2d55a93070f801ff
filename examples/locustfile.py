"""The documented load test: `locust -f examples/locustfile.py --host http://127.0.0.1:8080`.

Users `test_user_1` ... with the password of LOCUST_PASSWORD must be there and have budget: a
lifetime budget of 10 is gone after some thirty questions, and what follows is 429, as it should be.
The documents' figures (100 users, 0.847 s, 327.5 requests/s) break Little's law: with one question
in flight each, 100 users make 118 a second at most. `benchmarks/router_load.py` offers a rate.
"""

from __future__ import annotations

import itertools
import os

from locust import HttpUser, between, task

NUMBERS = itertools.count(1)


class FederatedLLMUser(HttpUser):  # type: ignore[misc]  # locust has no types
    """A clinician who asks simple questions, and sometimes a larger one."""

    wait_time = between(1, 3)

    def on_start(self) -> None:
        """Log in."""
        response = self.client.post(
            "/auth",
            json={
                "user_id": f"test_user_{next(NUMBERS)}",
                "password": os.environ["LOCUST_PASSWORD"],
            },
        )
        self.auth_token = response.json()["token"]

    @task(3)
    def simple_query(self) -> None:
        """One label from many records: what a tenth of epsilon buys."""
        self._ask(
            {
                "prompt": "Patient presents with chest pain",
                "privacy_budget": 0.1,
                "labels": ["cardiac", "pulmonary", "other"],
            }
        )

    @task(1)
    def complex_query(self) -> None:
        """A text, with the records' agreement."""
        self._ask(
            {
                "prompt": "Comprehensive analysis of multiple lab results",
                "privacy_budget": 0.5,
                "require_consensus": True,
            }
        )

    def _ask(self, body: dict[str, object]) -> None:
        self.client.post(
            "/inference", json=body, headers={"Authorization": f"Bearer {self.auth_token}"}
        )
