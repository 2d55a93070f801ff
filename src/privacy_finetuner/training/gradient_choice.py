"""Which engine makes the clipped sum of a run, by what the run asks for.

================================  =============================================================
a run asks for                    gets
================================  =============================================================
nothing in particular             `make_gradient`: one backward pass, verified, or a plain loop
`user_sampling`                   `UserMean`: one backward pass a user, clipped as a whole
`gradient="forward"`              `ForwardOnly`: slopes along public directions
`views` above 1                   any of the first two, on the mean loss over views
`precision="bfloat16"`            the same, with activations in bfloat16
================================  =============================================================
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from privacy_finetuner.config import PerformanceFlags, TrainingConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.engine import ClipRule, GradientSource, make_gradient
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
    *,
    width: int | None = None,
) -> tuple[GradientSource, str]:
    """Build the engine of a run, and say in words which it is.

    Every engine has passed `make_gradient` on the model, so a model that mixes examples, or writes
    what it sees into a buffer, is refused under each of them.

    Args:
        training: what changes utility.
        flags: speed and memory.
        loaded: the model on its device.
        objective: per-example loss.
        probe: public inputs.
        entropy: for directions and views.
        width: the public width of all batches; bfloat16 needs one.

    Raises:
        UnsupportedLayer: no engine can bound the model.
        ConfigurationError: views together with `gradient="forward"`, layers clipped one by one
            together with that or `user_sampling`, or a model that does not run in bfloat16.
    """
    if ClipRule(training.clip_rule) is ClipRule.BOUND_LAYERS and (
        training.user_sampling or training.gradient == "forward"
    ):
        raise ConfigurationError(
            "clip_rule 'bound_layers' goes with gradients by backward pass and single examples: "
            "not with user_sampling, not with gradient 'forward'; nothing was started"
        )
    loss: PerExampleLoss = objective
    if training.views > 1:
        if training.gradient == "forward":
            raise ConfigurationError(
                "views go with gradient 'backward': a slope needs the same view at both ends; "
                "nothing was started"
            )
        loss = _views(training, loaded, objective, entropy)
    gradient, words = make_gradient(loaded.model, loss, probe)
    plain: PerExampleLoss = objective
    if training.precision == "bfloat16":
        if width is None:
            raise ConfigurationError(
                "bfloat16 needs batches of one public width; nothing was started"
            )
        # The rules have just been held to float32; what bfloat16 adds is rounding.
        gradient.close()
        plain, loss = in_bfloat16(objective), in_bfloat16(loss)
        _require_bfloat16(loaded, plain, probe)
        gradient, words = make_gradient(loaded.model, loss, probe, bfloat16_width=width)
        words += ", activations in bfloat16"
    if training.gradient == "forward":
        gradient.close()
        forward = ForwardOnly(
            loaded.model,
            plain,
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


def in_bfloat16(loss: PerExampleLoss) -> PerExampleLoss:
    """The same loss with activations in bfloat16, where torch's autocast holds that safe.

    Taps catch bfloat16 activations and gradients; norms and sums are taken of exactly these, in
    float32, so an example stays within its bound as it does in float32.
    """

    def narrow(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        place = next(iter(batch.values())).device.type
        with torch.autocast(place, dtype=torch.bfloat16):
            losses_B, accuracies_B = loss(model, batch)
        return losses_B.float(), accuracies_B

    return narrow


def _require_bfloat16(loaded: LoadedModel, loss: PerExampleLoss, probe: Batch) -> None:
    try:
        with torch.no_grad():
            loss(loaded.model, probe)
    except RuntimeError as error:
        raise ConfigurationError(
            f"{type(loaded.model).__name__} does not run in bfloat16: {error}; nothing was "
            "started. Leave precision at float32"
        ) from error


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
