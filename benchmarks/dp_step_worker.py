"""One method, one process: builds a model, then takes a training step whenever it is told to.

Started by `dp_step.py`, one process for each method, so that peak memory is the method's own. It
reads one word per line (`step`, `memory`, `check`) and answers each with one line of JSON.

Shapes: B examples, T positions, V classes (vocabulary or labels).
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

CLIP_NORM = 1.0
LEARNING_RATE = 1e-5
SEED = 20261120
IGNORED = -100
LABELS = 2
SMALL_BATCH, SMALL_LENGTH = 3, 64
Batch = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The size of a configuration."""

    family: str  # gpt2, llama or bert
    layers: int
    vocabulary: int
    batch: int
    length: int
    tied: bool = False
    lora: bool = False


def gpt2(shape: Shape) -> nn.Module:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_layer=shape.layers,
            vocab_size=shape.vocabulary,
            n_positions=max(1024, shape.length),
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            tie_word_embeddings=shape.tied,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def llama(shape: Shape) -> nn.Module:
    model: nn.Module = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            num_hidden_layers=shape.layers,
            hidden_size=640,
            intermediate_size=1728,
            num_attention_heads=10,
            num_key_value_heads=5,
            vocab_size=shape.vocabulary,
            max_position_embeddings=max(2048, shape.length),
            tie_word_embeddings=shape.tied,
        )
    )
    if not shape.lora:
        return model
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, lora)
    with torch.no_grad():  # factors that start at zero would leave half of the gradients zero
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return model


def bert(shape: Shape) -> nn.Module:
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(
            num_hidden_layers=shape.layers,
            hidden_size=512,
            num_attention_heads=8,
            intermediate_size=2048,
            vocab_size=shape.vocabulary,
            max_position_embeddings=max(512, shape.length),
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            num_labels=LABELS,
        )
    )


FAMILIES: dict[str, Callable[[Shape], nn.Module]] = {"gpt2": gpt2, "llama": llama, "bert": bert}


def make_batch(shape: Shape, *, batch: int, length: int, padded: bool) -> Batch:
    """Made-up tokens, the same in every process; `padded` gives the examples unequal lengths."""
    generator = torch.Generator().manual_seed(SEED)
    ids_BT = torch.randint(1, shape.vocabulary, (batch, length), generator=generator)
    mask_BT = torch.ones_like(ids_BT)
    if padded:
        for row in range(batch):
            mask_BT[row, length - row * length // 4 :] = 0
    ids_BT *= mask_BT
    if shape.family == "bert":
        labels = torch.arange(batch) % LABELS
    else:
        labels = ids_BT.masked_fill(mask_BT == 0, IGNORED)
    return {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels}


def losses(model: nn.Module, batch: Batch, extra: Batch) -> Tensor:
    """The loss of each example, as a mean over its own tokens; no accuracy, unlike ours."""
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], **extra}
    if batch["labels"].ndim == 1:
        return functional.cross_entropy(model(**inputs).logits, batch["labels"], reduction="none")
    logits_BTV = model(**inputs, use_cache=False).logits
    targets_BT = functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
    losses_BT = functional.cross_entropy(
        logits_BTV.flatten(0, 1), targets_BT.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(targets_BT)
    return losses_BT.sum(dim=1) / (targets_BT != IGNORED).sum(dim=1).clamp(min=1)


def explicit_inputs(shape: Shape, batch: Batch) -> Batch:
    """Position and type ids with a row for each example.

    Hugging Face makes them [1, T] by default, and every mode of Opacus 1.6 crashes on that.
    """
    if shape.family == "llama":
        return {}
    ids_BT = batch["input_ids"]
    positions = torch.arange(ids_BT.shape[1]).expand(ids_BT.shape).contiguous()
    extra = {"position_ids": positions}
    if shape.family == "bert":
        extra["token_type_ids"] = torch.zeros_like(ids_BT)
    return extra


class Method(Protocol):
    """A way to train."""

    def step(self, batch: Batch) -> None:
        """Take one whole step."""
        ...

    def clipped_sum(self, batch: Batch, clip_norm: float) -> list[Tensor]:
        """The clipped sum of a batch, without noise."""
        ...


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(trained(model), lr=LEARNING_RATE, fused=True)


class Plain:
    """PyTorch without privacy."""

    def __init__(self, model: nn.Module, shape: Shape) -> None:
        self.model, self.optimizer = model, adamw(model)

    def step(self, batch: Batch) -> None:
        """Take one whole step."""
        losses(self.model, batch, {}).mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def clipped_sum(self, batch: Batch, clip_norm: float) -> list[Tensor]:
        """The definition: a loop over examples, ordinary autograd, clip, add, all in float32."""
        total: list[Tensor] = []
        for gradients, norm in self._singles(batch):
            factor = min(1.0, clip_norm / norm)
            if not total:
                total = [torch.zeros_like(g) for g in gradients]
            for target, gradient in zip(total, gradients, strict=True):
                target.add_(gradient, alpha=factor)
        return total

    def norms(self, batch: Batch) -> list[float]:
        """The gradient norm of each example."""
        return [norm for _, norm in self._singles(batch)]

    def _singles(self, batch: Batch) -> Iterator[tuple[list[Tensor], float]]:
        for row in range(len(batch["labels"])):
            single = {name: values[row : row + 1] for name, values in batch.items()}
            loss_1 = losses(self.model, single, {})
            found = torch.autograd.grad(loss_1.sum(), trained(self.model), allow_unused=True)
            gradients = [
                torch.zeros_like(p) if g is None else g
                for g, p in zip(found, trained(self.model), strict=True)
            ]
            yield gradients, math.sqrt(sum(float(g.double().square().sum()) for g in gradients))


class Ours:
    """Privacy Finetuner as it trains: secure noise, and the private statistics of the history."""

    def __init__(self, model: nn.Module, shape: Shape) -> None:
        from privacy_finetuner.config import PerformanceFlags
        from privacy_finetuner.training.engine import make_gradient
        from privacy_finetuner.training.kept_memory import kept_memory
        from privacy_finetuner.training.noise import GaussianNoise
        from privacy_finetuner.training.objectives import Objective, public_probe
        from privacy_finetuner.training.plan import DPTrainingPlan
        from privacy_runtime.world import SystemEntropy

        causal = shape.family != "bert"
        self.objective = Objective(
            task="causal_lm" if causal else "sequence_classification",
            classes=shape.vocabulary if causal else LABELS,
        )
        probe = public_probe(
            self.objective, vocabulary=shape.vocabulary, device=torch.device("cpu")
        )
        self.gradient, how = make_gradient(model, self.objective, probe)
        if not how.startswith("one backward"):
            raise RuntimeError(how)
        self._memory = kept_memory(model, PerformanceFlags())
        self._memory.__enter__()  # as `session.drive` does, to the end of the process
        self.noise, self.optimizer = GaussianNoise.secure(SystemEntropy()), adamw(model)
        ratio = 10.0  # the statistics' noise over the whole's, as the trainer plans it
        self.plan = DPTrainingPlan(
            examples=1000 * shape.batch,
            expected_batch_size=shape.batch,
            steps=1000,
            steps_asked=1000,
            noise_multiplier=1.0,
            gradient_noise_multiplier=1 / math.sqrt(1 - 1 / ratio**2),
            count_noise_multiplier=None,
            statistics_noise_multiplier=ratio,
            clip_norm=CLIP_NORM,
            clip_rule="bound",
            delta=1e-5,
            accountant="pld",
        )

    def step(self, batch: Batch) -> None:
        """Take one private step, as the training loop does."""
        from privacy_finetuner.training.dp_step import dp_step
        from privacy_finetuner.training.engine import Clip

        dp_step(
            self.gradient,
            [batch],
            clip=Clip(CLIP_NORM),
            plan=self.plan,
            noise=self.noise,
            optimizer=self.optimizer,
            loss_cap=self.objective.loss_cap,
        )

    def clipped_sum(self, batch: Batch, clip_norm: float) -> list[Tensor]:
        """What `dp_step` would add noise to."""
        from privacy_finetuner.training.engine import Clip

        clip = Clip(clip_norm)
        self.gradient.add(batch, clip)
        return self.gradient.take(clip).tensors


class OpacusInstantiated:
    """Opacus with per-example gradients: its hooks, or functorch for every layer."""

    def __init__(self, model: nn.Module, shape: Shape, *, functorch: bool = False) -> None:
        from opacus import GradSampleModule
        from opacus.optimizers import DPOptimizer

        self.shape, self.base = shape, model
        self.model = GradSampleModule(model, force_functorch=functorch)
        self.optimizer = DPOptimizer(
            adamw(model),
            noise_multiplier=1.0,
            max_grad_norm=CLIP_NORM,
            expected_batch_size=shape.batch,
        )

    def step(self, batch: Batch) -> None:
        """Backward, then clip, noise and update inside the optimiser."""
        self._backward(batch)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def clipped_sum(self, batch: Batch, clip_norm: float) -> list[Tensor]:
        """What the optimiser would add noise to."""
        self.optimizer.max_grad_norm = clip_norm
        self._backward(batch)
        self.optimizer.clip_and_accumulate()
        sums = [p.summed_grad.clone() for p in trained(self.base)]  # type: ignore[attr-defined]
        self.optimizer.zero_grad(set_to_none=True)
        return sums

    def _backward(self, batch: Batch) -> None:
        losses(self.model, batch, explicit_inputs(self.shape, batch)).mean().backward()


class OpacusGhost:
    """Opacus with ghost clipping: norms from Gram matrices, and a second backward pass."""

    def __init__(self, model: nn.Module, shape: Shape) -> None:
        from opacus.grad_sample import GradSampleModuleFastGradientClipping
        from opacus.optimizers import DPOptimizerFastGradientClipping

        self.shape, self.base = shape, model
        self.model = GradSampleModuleFastGradientClipping(
            model, max_grad_norm=CLIP_NORM, use_ghost_clipping=True
        )
        self.optimizer = DPOptimizerFastGradientClipping(
            adamw(model),
            noise_multiplier=1.0,
            max_grad_norm=CLIP_NORM,
            expected_batch_size=shape.batch,
        )

    def step(self, batch: Batch) -> None:
        """Two backward passes, then noise and update."""
        self._backward(batch)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def clipped_sum(self, batch: Batch, clip_norm: float) -> list[Tensor]:
        """What the optimiser would add noise to."""
        self.model.max_grad_norm = clip_norm
        self._backward(batch)
        sums = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained(self.base)]
        self.optimizer.zero_grad(set_to_none=True)
        return sums

    def _backward(self, batch: Batch) -> None:
        from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

        losses_B = losses(self.model, batch, explicit_inputs(self.shape, batch))
        DPTensorFastGradientClipping(self.model, self.optimizer, losses_B, "mean").backward()


METHODS: dict[str, Callable[[nn.Module, Shape], Method]] = {
    "plain": Plain,
    "ours": Ours,
    "opacus_hooks": OpacusInstantiated,
    "opacus_functorch": lambda model, shape: OpacusInstantiated(model, shape, functorch=True),
    "opacus_ghost": OpacusGhost,
}


def peak_mib() -> float:
    """The most memory this process has held, since its start or since `forget_peak`."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent held before this program was started
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def forget_peak() -> None:
    """Start the peak anew, where the system can."""
    switch = Path("/proc/self/clear_refs")
    if switch.exists():
        switch.write_text("5")


def relative_error(method: Method, reference: Plain, shape: Shape) -> float:
    """The largest error of two bounds: one that clips some of the examples, one that clips all."""
    length = min(shape.length, SMALL_LENGTH)
    batch = make_batch(shape, batch=SMALL_BATCH, length=length, padded=True)
    norms = sorted(reference.norms(batch))
    worst = 0.0
    for clip_norm in (norms[len(norms) // 2], 0.3 * norms[0]):
        expected = reference.clipped_sum(batch, clip_norm)
        found = method.clipped_sum(batch, clip_norm)
        pairs = list(zip(found, expected, strict=True))
        error = sum(float((f - e).double().square().sum()) for f, e in pairs)
        size = sum(float(e.double().square().sum()) for _, e in pairs)
        worst = max(worst, math.sqrt(error / size))
    return worst


def build(shape: Shape) -> nn.Module:
    torch.manual_seed(SEED)
    return FAMILIES[shape.family](shape).train()


def check(name: str, shape: Shape) -> dict[str, Any]:
    """Compare the method's clipped sum with the loop; two equal models, one for each."""
    method, reference = METHODS[name](build(shape), shape), Plain(build(shape), shape)
    return {"max_rel_error": relative_error(method, reference, shape)}


def timed(method: Method, batch: Batch) -> dict[str, float]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    method.step(batch)
    return {"wall_s": time.perf_counter() - wall_s, "cpu_s": time.process_time() - cpu_s}


def serve(name: str, shape: Shape, answer: Callable[[dict[str, Any]], None]) -> None:
    """Answer `step`, `memory` and `check`, until the input ends."""
    method = METHODS[name](build(shape), shape)
    batch = make_batch(shape, batch=shape.batch, length=shape.length, padded=False)
    setup_mib = peak_mib()
    forget_peak()
    answer({"ready": True})
    for line in sys.stdin:
        match line.strip():
            case "step":
                answer(timed(method, batch))
            case "memory":
                answer({"setup_mib": setup_mib, "step_mib": peak_mib()})
            case "check":
                del method
                answer(check(name, shape))


def main() -> None:
    request = json.loads(sys.argv[1])
    torch.set_num_threads(request["threads"])
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    shape, out = Shape(**request["shape"]), os.fdopen(os.dup(1), "w")

    def answer(values: dict[str, Any]) -> None:
        print(json.dumps(values), file=out, flush=True)

    with redirect_stdout(sys.stderr):
        try:
            serve(request["method"], shape, answer)
        except Exception as error:  # noqa: BLE001  # whatever a peer raises is the finding
            lines = str(error).strip().splitlines() or [""]
            answer({"failed": f"{type(error).__name__}: {lines[0][:300]}"})


if __name__ == "__main__":
    main()
