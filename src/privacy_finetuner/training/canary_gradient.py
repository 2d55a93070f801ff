"""White-box canaries: extra records whose gradient is dictated, and what an observer sees of them.

Canary i's gradient is one coordinate of its own, far longer than any clip norm, so that after
clipping it is the clip norm itself: the most that one record may contribute (a Dirac canary). It
joins the clipped sum under the run's own Poisson sampling, before the noise; noise is added once,
to the whole sum. The observer sees what the guarantee is about, every *noisy* sum, and keeps for
each canary, in or out, the sum over steps of the log-likelihood ratio

    log(1 - q + q exp((2 x - 1) / (2 s^2))),   x = (noisy sum at its coordinate) / clip norm

of "drawn with probability q" against "out". s is the noise multiplier, or the median spread of x
over all canaries where that is larger: the records' own gradients are there as well. Scores are
post-processing of released sums; no coin is read for them.

Cost in utility: the coordinates are pushed by a clip norm in the steps that their canary joins, as
by a record that wants nothing else. The guarantee of the records is unchanged.

Source: Nasr et al. 2023 (arXiv:2302.07956), section 4 (Dirac canaries); Steinke et al. 2023
(arXiv:2305.08846), section 6; the ratio is that of a mixture of two Gaussians.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from privacy_core.auditing.canaries import step_log_likelihood_ratio
from privacy_finetuner.errors import CheckpointError, ConfigurationError
from privacy_finetuner.training.canaries import Places
from privacy_finetuner.training.engine import BatchRecord, Clip, ClipRule, GradientSource
from privacy_finetuner.training.engine.clipped_gradient import Batch
from privacy_finetuner.training.engine.running_sum import BoundedSum
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_runtime.files import write_atomic

SCORES_FILE: Final = "audit_scores.json"
SCORES_VERSION: Final = 1
_LENGTH: Final = 1000.0
"""Of a dictated gradient before clipping, in clip norms: a run that does not clip is seen at once.
"""
_MAD_TO_STD: Final = 1.4826


def watching(
    source: GradientSource, places: Places | None, plan: DPTrainingPlan, resumed: Path | None
) -> CanaryGradient | None:
    """The run's engine with its white-box canaries, if it has any.

    Raises:
        ConfigurationError: the noise is correlated, or layers are clipped one by one.
        CheckpointError: the scores of the run that is `resumed` are damaged.
    """
    if places is None or not places.seal.is_white_box:
        return None
    if ClipRule(plan.clip_rule) is ClipRule.BOUND_LAYERS:
        raise ConfigurationError(
            "a white-box canary is one coordinate as long as the clip norm, and clip_rule "
            "'bound_layers' leaves no single layer so much; audit this run with "
            "audit_scores='black-box', or take clip_rule 'bound'; nothing was spent"
        )
    if plan.correlation is not None:
        raise ConfigurationError(
            "white-box scores count on noise that is independent from step to step; audit this "
            "run with audit_scores='black-box', or take noise 'independent'; nothing was spent"
        )
    gradient = CanaryGradient(source, places, plan)
    if resumed is not None and (resumed / SCORES_FILE).is_file():
        gradient.scores, gradient.steps = read_scores(resumed, places.seal.digest)
    return gradient


class CanaryGradient:
    """A `GradientSource` with dictated gradients in its sum. Contract of `GradientSource`.

    Guarantee: the tensors of `take()` change by at most `clip_norm` in L2 when one example, or one
    canary, is added or removed.
    """

    def __init__(self, source: GradientSource, places: Places, plan: DPTrainingPlan) -> None:
        self.parameters: list[nn.Parameter] = source.parameters
        self.scores: NDArray[np.float64] = np.zeros(places.seal.count)
        self.steps = 0
        self._source = source
        self._places = places
        self._plan = plan
        self._clip_norm = 0.0
        ends = np.cumsum([p.numel() for p in self.parameters])
        flat = np.array(places.seal.coordinates, dtype=np.int64)
        self._owner = np.searchsorted(ends, flat, side="right")
        self._offset = flat - np.concatenate([[0], ends])[self._owner]

    def add(self, batch: Batch, clip: Clip) -> BatchRecord:
        """Add the clipped gradients of one micro-batch of records."""
        return self._source.add(batch, clip)

    def take(self, clip: Clip) -> BoundedSum:
        """Hand over the sum with the canaries of this step in it."""
        bounded = self._source.take(clip)
        self._clip_norm = clip.clip_norm
        length = _LENGTH * clip.clip_norm
        (factor,) = clip.factors(torch.tensor([length], dtype=torch.float64)).tolist()
        for parameter, (_, place) in self._at(self._places.present, bounded.tensors):
            bounded.tensors[parameter][place] += factor * length
        return bounded

    def observe(self, updates: Sequence[Tensor]) -> None:
        """Score every canary by the noisy mean gradient of a step."""
        plan, everyone = self._plan, np.arange(self._places.seal.count)
        x_M = np.zeros(len(everyone))
        for parameter, (chosen, place) in self._at(everyone, updates):
            x_M[chosen] = updates[parameter][place].double().cpu().numpy()
        x_M *= plan.expected_batch_size / self._clip_norm
        spread = _MAD_TO_STD * float(np.median(np.abs(x_M - np.median(x_M))))
        std = max(plan.gradient_noise_multiplier, spread)
        self.scores += step_log_likelihood_ratio(
            x_M, noise_multiplier=std, sample_rate=plan.sampling_probability
        )
        self.steps += 1

    def close(self) -> None:
        """Leave the model as it was."""
        self._source.close()

    def keep(self, folder: Path) -> None:
        """Write the scores so far beside the checkpoint. They are released figures."""
        body = {"seal": self._places.seal.digest, "steps": self.steps, "scores": list(self.scores)}
        path = folder / SCORES_FILE
        path.touch(mode=0o600)
        write_atomic(path, json.dumps({"version": SCORES_VERSION, **body}).encode())

    def _at(
        self, canaries: NDArray[np.int64], tensors: Sequence[Tensor]
    ) -> list[tuple[int, tuple[NDArray[np.int64], tuple[Tensor, ...]]]]:
        """Where canaries stand: (parameter, (canaries, their index in it))."""
        found = []
        for parameter in np.unique(self._owner[canaries]).tolist():
            chosen = canaries[self._owner[canaries] == parameter]
            tensor = tensors[parameter]
            offsets = torch.from_numpy(self._offset[chosen]).to(tensor.device)
            found.append((parameter, (chosen, torch.unravel_index(offsets, tensor.shape))))
        return found


def digest_of_scores(folder: Path) -> str:
    """SHA-256 of the scores' file: the run record keeps it when the run ends."""
    return hashlib.sha256((folder / SCORES_FILE).read_bytes()).hexdigest()


def read_scores(folder: Path, digest: str) -> tuple[NDArray[np.float64], int]:
    """The white-box scores of a run and how many steps are in them.

    Raises:
        CheckpointError: missing, damaged, of another version, or of other canaries.
    """
    path = folder / SCORES_FILE
    try:
        document = json.loads(path.read_bytes())
        scores, steps = np.array(document["scores"], dtype=np.float64), int(document["steps"])
        version, seal = document["version"], document["seal"]
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: no step of the run was observed") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({type(error).__name__})") from error
    if version != SCORES_VERSION or seal != digest:
        raise CheckpointError(f"{path} is of another version or of other canaries; not used")
    return scores, steps
