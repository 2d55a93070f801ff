"""Which engine makes the clipped sum of a run, by what the run asks for.

================================  =============================================================
a run asks for                    gets
================================  =============================================================
nothing in particular             `make_gradient`: one backward pass, verified, or a plain loop
`user_sampling`                   `UserMean`: one backward pass a user, clipped as a whole
`gradient="forward"`              `ForwardOnly`: slopes along public directions
`views` above 1                   any of the first two, on the mean loss over views
================================  =============================================================
"""

from __future__ import annotations

import torch

from privacy_finetuner.config import PerformanceFlags, TrainingConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.engine import GradientSource, make_gradient
from privacy_finetuner.training.engine.clipped_gradient import Batch, PerExampleLoss
from privacy_finetuner.training.engine.forward_only import ForwardOnly
from privacy_finetuner.training.engine.user_mean import UserMean
from privacy_finetuner.training.models import LoadedModel
from privacy_finetuner.training.objectives import Objective
from privacy_finetuner.training.views import Views, replaced_tokens
from privacy_runtime.world import Entropy


def choose_gradient(
    training: TrainingConfig,
    flags: PerformanceFlags,
    loaded: LoadedModel,
    objective: Objective,
    probe: Batch,
    entropy: Entropy,
) -> tuple[GradientSource, str]:
    """Build the engine of a run, and say in words which it is.

    Every engine has passed `make_gradient` on the model, so a model that mixes examples, or writes
    what it sees into a buffer, is refused under each of them.

    Raises:
        UnsupportedLayer: no engine can bound the model.
        ConfigurationError: views together with `gradient="forward"`.
    """
    loss: PerExampleLoss = objective
    if training.views > 1:
        if training.gradient == "forward":
            raise ConfigurationError(
                "views go with gradient 'backward': a slope needs the same view at both ends; "
                "nothing was started"
            )
        loss = _views(training, loaded, objective, entropy)
    gradient, words = make_gradient(loaded.model, loss, probe)
    if training.gradient == "forward":
        gradient.close()
        forward = ForwardOnly(
            loaded.model,
            objective,
            entropy,
            directions=training.directions,
            perturbation=training.perturbation,
        )
        return forward, f"zeroth order, {training.directions} directions a step"
    if training.user_sampling:
        gradient.close()
        mean = UserMean(loaded.model, loss, piece_tokens=flags.micro_batch_tokens)
        return mean, "one backward pass a user, clipped as a whole"
    return gradient, words


def _views(
    training: TrainingConfig, loaded: LoadedModel, objective: Objective, entropy: Entropy
) -> Views:
    seed = int.from_bytes(entropy.token_bytes(7))
    vocabulary = int(loaded.model.config.vocab_size)
    return Views(
        objective,
        training.views,
        replaced_tokens(training.view_replacement, vocabulary),
        torch.Generator().manual_seed(seed),
    )
