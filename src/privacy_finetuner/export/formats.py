"""How each form is written, and how it is read back.

Each is written by the library that reads it elsewhere: transformers with compressed-tensors, or
ONNX Runtime.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

from privacy_finetuner.export.comparison import Answers, Ids, Logits
from privacy_finetuner.export.errors import ExportError
from privacy_finetuner.export.forms import Format, Quantization
from privacy_finetuner.training.pretrained import first_line, without_progress_bars

GRAPH: Final = "model.onnx"
BLOCK: Final = 32
_MOST_INLINE_BYTES: Final = 1_500_000_000  # a protobuf message ends at 2 GiB


_BITS: Final = {Quantization.INT8: 8, Quantization.INT4: 4}


def write(model: Any, folder: Path, form: Format, quantization: Quantization) -> None:
    """Write a model into an empty folder; the tokenizer is not this module's.

    Args:
        model: a Hugging Face model in eval mode, in float32 or bfloat16; it is not changed.
        folder: where; it exists.
        form: for which programs.
        quantization: in how many bits.

    Raises:
        ExportError: the library cannot write this architecture.
    """
    try:
        with _quiet():
            bits = _BITS.get(quantization)
            if form is Format.SAFETENSORS and bits is None:
                model.save_pretrained(folder)
            elif form is Format.SAFETENSORS and bits is not None:
                _write_packed(model, folder, bits)
            elif bits is None:
                _write_graph(model, folder / GRAPH)
            else:
                _write_packed_graph(model, folder / GRAPH, bits)
    except (OSError, ExportError):
        raise
    except Exception as error:  # exporters raise dozens of types; the state is the same for all
        raise ExportError(
            f"{type(model).__name__} cannot be written as {form} with {quantization} "
            f"({type(error).__name__}: {first_line(error)}); nothing was put in place"
        ) from error


def read(folder: Path, form: Format, *, is_classifier: bool) -> Answers:
    """Load an export from its files, as another program would.

    Raises:
        ExportError: it does not load.
    """
    try:
        with _quiet():
            if form is Format.ONNX:
                return _graph_answers(folder / GRAPH)
            kind = AutoModelForSequenceClassification if is_classifier else AutoModelForCausalLM
            return answers_of(kind.from_pretrained(folder).eval())
    except Exception as error:  # loaders raise dozens of types; the state is the same for all
        raise ExportError(
            f"the export does not load ({type(error).__name__}: {first_line(error)})"
        ) from error


def answers_of(model: Any) -> Answers:
    """A Hugging Face model as a function from ids to logits."""

    def answers(ids: Ids) -> Logits:
        with torch.no_grad(), _quiet():  # packed weights are unpacked at the first call
            given = torch.from_numpy(ids).to(model.device)
            logits = model(input_ids=given, attention_mask=torch.ones_like(given)).logits
        return np.asarray(logits.float().cpu(), dtype=np.float32)

    return answers


def _write_packed(model: Any, folder: Path, bits: int) -> None:
    from compressed_tensors.compressors import ModelCompressor  # noqa: PLC0415  # an extra
    from compressed_tensors.quantization import (  # noqa: PLC0415
        QuantizationConfig,
        apply_quantization_config,
        preset_name_to_scheme,
    )
    from compressed_tensors.quantization.utils import calculate_qparams  # noqa: PLC0415

    smaller = copy.deepcopy(model)
    output = smaller.get_output_embeddings() if smaller.can_generate() else None
    names = [
        name
        for name, module in smaller.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output
    ]
    linear = [smaller.get_submodule(name) for name in names]
    if not linear:
        raise ExportError(
            f"{type(model).__name__} keeps its weights in no linear layer, so there is nothing to "
            "quantize; nothing was put in place"
        )
    is_even = all(module.in_features % BLOCK == 0 for module in linear)
    scheme = preset_name_to_scheme(f"W{bits}A16", names)
    scheme.weights.strategy = "group" if is_even else "channel"
    scheme.weights.group_size = BLOCK if is_even else None
    config = QuantizationConfig(
        config_groups={"group_0": scheme}, format="pack-quantized", quantization_status="frozen"
    )
    apply_quantization_config(smaller, config)
    for module in linear:
        width = BLOCK if is_even else module.in_features
        blocks = module.weight.detach().unflatten(1, (-1, width))
        scale, zero = calculate_qparams(
            blocks.amin(-1), blocks.amax(-1), module.quantization_scheme.weights
        )
        module.weight_scale.data.copy_(scale)
        if hasattr(module, "weight_zero_point"):
            module.weight_zero_point.data.copy_(zero)
    compressor = ModelCompressor.from_pretrained_model(smaller)
    compressor.compress_model(smaller)
    smaller.save_pretrained(folder)
    compressor.update_config(folder)


class _Graph(torch.nn.Module):
    """A model whose only outputs are logits: no cache, no tuple."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        options = {"use_cache": False} if self.model.can_generate() else {}
        answer = self.model(input_ids=input_ids, attention_mask=attention_mask, **options)
        logits: torch.Tensor = answer.logits
        return logits


def _write_graph(model: Any, path: Path) -> None:
    ids = torch.zeros(2, 8, dtype=torch.int64, device=model.device)
    most = getattr(model.config, "max_position_embeddings", None) or 1 << 16
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=most)}
    torch.onnx.export(
        _Graph(model).eval(),
        (ids, torch.ones_like(ids)),
        str(path),
        dynamo=True,
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        dynamic_shapes=(axes, axes),
        external_data=_is_large(model),
        verbose=False,
    )


def _write_packed_graph(model: Any, path: Path, bits: int) -> None:
    import onnx  # noqa: PLC0415  # an extra
    from onnxruntime.quantization.matmul_nbits_quantizer import (  # noqa: PLC0415  # slow
        MatMulNBitsQuantizer,
    )

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / GRAPH
        _write_graph(_with_linear_layers(model), whole)
        smaller = MatMulNBitsQuantizer(
            onnx.load(str(whole)), bits=bits, block_size=BLOCK, is_symmetric=True
        )
    smaller.process()
    if not any(node.op_type == "MatMulNBits" for node in smaller.model.model.graph.node):
        raise ExportError(
            f"{type(model).__name__} multiplies by no constant matrix that ONNX Runtime quantizes; "
            "nothing was put in place"
        )
    smaller.model.save_model_to_file(str(path), use_external_data_format=_is_large(model))


def _with_linear_layers(model: Any) -> Any:
    """GPT-2's `Conv1D` is a linear layer that the exporter writes as a fused product; undo that."""
    convolutions = [name for name, module in model.named_modules() if isinstance(module, Conv1D)]
    if not convolutions:
        return model
    plain = copy.deepcopy(model)
    for name in convolutions:
        fused = plain.get_submodule(name)
        ins, outs = fused.weight.shape
        linear = torch.nn.Linear(ins, outs, device=model.device, dtype=fused.weight.dtype)
        linear.weight.data.copy_(fused.weight.data.T)
        linear.bias.data.copy_(fused.bias.data)
        plain.set_submodule(name, linear)
    return plain


def _is_large(model: Any) -> bool:
    size: int = sum(p.numel() * p.element_size() for p in model.parameters())
    return size > _MOST_INLINE_BYTES


def _graph_answers(path: Path) -> Answers:
    import onnxruntime  # noqa: PLC0415  # slow

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def answers(ids: Ids) -> Logits:
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        [logits] = session.run(None, given)
        return np.asarray(logits, dtype=np.float32)

    return answers


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters print progress and advice; a user reads our words."""
    was = logging.root.manager.disable
    logging.disable(logging.WARNING)
    unheard = StringIO()
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            without_progress_bars(),
            redirect_stdout(unheard),
            redirect_stderr(unheard),
        ):
            yield
    finally:
        logging.disable(was)
