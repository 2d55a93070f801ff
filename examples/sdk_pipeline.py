"""The pipeline of the requirement documents with what exists: guard, service, alerts, compliance.

    python examples/sdk_pipeline.py --url http://127.0.0.1:8080 --dataset sample:records

`ThreatDetector`, `AutoScaler` and `ComplianceManager` are classes to come. What they are for, the
service does already for its operators; whoever runs this has the scopes for some of it, and the
pipeline says what was left to others instead of pretending.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from privacy_finetuner import ContextGuard, PrivacyConfig, RedactionStrategy
from privacy_finetuner.client import Client, NotAllowed


class PrivacyPreservingMLPipeline:
    """Checks a prompt, trains at the service, and gathers what may be seen of the outcome."""

    def __init__(self, client: Client, config: PrivacyConfig) -> None:
        self.client = client
        self.privacy_config = config
        self.context_guard = ContextGuard(
            strategies=[RedactionStrategy.PII_REMOVAL, RedactionStrategy.ENTITY_HASHING]
        )

    def run_privacy_preserving_training(self, dataset_path: str) -> dict[str, Any]:
        """Train, wait, and report."""
        started = self.client.jobs.start_training(
            "sample:model",
            dataset_path,
            privacy_config={
                "epsilon": self.privacy_config.epsilon,
                "delta": self.privacy_config.delta,
                "max_grad_norm": self.privacy_config.max_grad_norm,
            },
            training_config={"epochs": 1, "batch_size": 256, "learning_rate": 4e-3},
        )
        job = self.client.jobs.wait(started.job_id)
        return {
            "training_result": job,
            "privacy_report": self.client.jobs.privacy_report(job.job_id),
            "security_summary": allowed(self.client.security.security_status),
            "compliance_report": allowed(self.client.compliance.compliance_summary),
        }


def allowed(ask: Callable[[], Any]) -> Any:
    """The answer, or `None` where it is somebody else's to see."""
    try:
        return ask()
    except NotAllowed:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--dataset", default="sample:records")
    asked = parser.parse_args()
    with Client(asked.url) as client:
        pipeline = PrivacyPreservingMLPipeline(client, PrivacyConfig(epsilon=8.0, delta=1e-5))
        note = "Ask Anna Weber, anna.weber@example.org, about the knee."
        print(pipeline.context_guard.protect(note).protected_text)
        results = pipeline.run_privacy_preserving_training(asked.dataset)
    report = results["privacy_report"]
    print(f"{results['training_result'].status}: epsilon {report.privacy_spent.epsilon:.4f}")
    for name in ("security_summary", "compliance_report"):
        print(f"{name}: {results[name] or 'for officers to see'}")


if __name__ == "__main__":
    main()
