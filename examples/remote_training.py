"""Train at a service: submit, follow every step across lost connections, fetch and verify.

    privacy-finetuner serve                                   # in another terminal
    privacy-finetuner login --url http://127.0.0.1:8080 --username ada
    python examples/remote_training.py --output runs/remote

Or with a key instead of a login: PRIVACY_FINETUNER_API_KEY and --url. Needs no torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from privacy_finetuner.client import BudgetRefused, Client, InvalidRequest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", help="with a key; default: the login's")
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--output", type=Path, default=Path("runs/remote"))
    asked = parser.parse_args()
    with Client.from_profile() if asked.url is None else Client(asked.url) as client:
        train(client, asked.epsilon, asked.epochs, asked.output)


def train(client: Client, epsilon: float, epochs: float, output: Path) -> None:
    """Submit a job, follow it to its end, and bring its files here."""
    try:
        started = client.jobs.start_training(
            "sample:model",
            "sample:records",
            privacy_config={"epsilon": epsilon, "delta": 1e-5, "accounting_mode": "pld"},
            training_config={"epochs": epochs, "batch_size": 256, "learning_rate": 4e-3},
            name="the remote example",
        )
    except BudgetRefused as refusal:
        raise SystemExit(f"ask an officer first: {refusal}") from refusal
    except InvalidRequest as refusal:
        for fault in refusal.details:
            print(f"{fault['path']}: {fault['message']}")
        raise SystemExit(2) from refusal

    # A restart of the service or a lost connection is waited for and costs no event.
    for event in client.jobs.watch(started.job_id):
        figures = ", ".join(f"{name} {value}" for name, value in event.body.items())
        print(f"{event.seq:4} {event.kind:10} {figures}")

    job = client.jobs.get_training(started.job_id)
    print(f"{job.status}: epsilon {job.privacy_spent.epsilon:.4f} at {job.privacy_spent.delta:g}")
    if job.status != "succeeded":
        raise SystemExit(f"[{job.error_code}] {job.error}")

    output.mkdir(parents=True, exist_ok=True)
    for artefact in client.jobs.list_artefacts(job.job_id):
        path = client.jobs.download_artefact(job.job_id, artefact.name, output)
        print(f"{path}  {artefact.size_bytes} bytes, sha256 as announced")


if __name__ == "__main__":
    main()
