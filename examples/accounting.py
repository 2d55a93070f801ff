"""What a private run costs, and what a budget buys, before any data is read.

    python examples/accounting.py

Needs neither a model nor torch, and takes about a second.
"""

from __future__ import annotations

from privacy_core.accounting import (
    calibrate_noise_multiplier,
    calibrate_steps,
    dp_sgd_event,
    epsilon_of,
)
from privacy_core.errors import UnsupportedEvent
from privacy_core.guarantee import NeighbouringRelation

SAMPLE_RATE, STEPS, DELTA = 0.01, 1000, 1e-5


def main() -> None:
    event = dp_sgd_event(noise_multiplier=1.0, sample_rate=SAMPLE_RATE, steps=STEPS)

    print("One run, every accountant (each figure is an upper bound):")
    for name in ("pld", "rdp", "gdp"):
        try:
            print(f"  {name}  epsilon {epsilon_of(event, DELTA, name):.4f}")
        except UnsupportedEvent as refusal:
            print(f"  {name}  refused: {refusal.reason}")

    print("The same run under the other relation, and for a user with four records:")
    replaced = epsilon_of(event, DELTA, relation=NeighbouringRelation.REPLACE_ONE)
    print(f"  replace one record    epsilon {replaced:.4f}")
    user = dp_sgd_event(
        noise_multiplier=1.0, sample_rate=SAMPLE_RATE, steps=STEPS, max_examples_per_user=4
    )
    print(f"  add or remove a user  epsilon {epsilon_of(user, DELTA):.4f}")

    print("From a budget to a parameter:")
    for epsilon in (1.0, 3.0, 8.0):
        noise = calibrate_noise_multiplier(
            epsilon=epsilon, delta=DELTA, sample_rate=SAMPLE_RATE, steps=STEPS
        )
        print(f"  epsilon {epsilon:g} over {STEPS} steps needs noise multiplier {noise:.5f}")
    steps = calibrate_steps(epsilon=1.0, delta=DELTA, sample_rate=SAMPLE_RATE, noise_multiplier=1.0)
    print(f"  epsilon 1 at noise multiplier 1 lasts {steps} steps")


if __name__ == "__main__":
    main()
