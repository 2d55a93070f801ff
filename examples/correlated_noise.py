"""Noise that takes back a part of itself: what each kind leaves in the sum of the updates.

    python examples/correlated_noise.py

Reads no data and needs no torch: which noise a run takes is decided when it is planned. All rows
keep the same (epsilon, delta); a single step has more noise, the sum of the steps has less.
"""

from __future__ import annotations

from privacy_finetuner import PrivacyConfig
from privacy_finetuner.config import TrainingConfig
from privacy_finetuner.training.noise_choice import Scenario
from privacy_finetuner.training.plan import make_plan

EXAMPLES, BATCH, EPOCHS = 50_000, 500, 10


def main() -> None:
    training = TrainingConfig(epochs=EPOCHS, batch_size=BATCH)
    print(f"{EXAMPLES:,} records, batches of {BATCH}, {EPOCHS} epochs, epsilon 4 at delta 1e-5:")
    independent = None
    for noise in ("independent", "auto", "banded", "blt", "lambda_cgd"):
        config = PrivacyConfig(epsilon=4.0, delta=1e-5, accounting_mode="pld", noise=noise)
        plan = make_plan(config, training, examples=EXAMPLES)
        choice = Scenario(
            privacy=config, sample_rate=plan.sampling_probability, steps=plan.steps
        ).choose()
        independent = independent or choice.error
        print(
            f"  {noise:11}  epsilon {plan.epsilon():.4f}  groups {plan.groups:3}  "
            f"noise of a step {plan.step_noise_multiplier:6.3f}  "
            f"of the sums {choice.error:6.3f}, {choice.error / independent:.3f} of independent"
        )


if __name__ == "__main__":
    main()
