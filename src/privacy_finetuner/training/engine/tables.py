"""Tables of relative positions: looked up once for all examples, then broadcast to their scores.

T5 adds a bias [1, H, Q, K] to the scores of every example; DeBERTa multiplies queries and keys with
projections of one table [2K, D]. Neither tensor has a row for each example, so autograd would add
the gradients of all examples before they could be clipped. While a batch runs, both tensors get
that row: the table is expanded to B copies where it leaves its module, and tapped there.

Shapes: B examples, H heads, Q queries, K keys, R rows of the table, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from privacy_finetuner.training.engine.rules import Instantiated
from privacy_finetuner.training.engine.tap import Examples

_SCORES = ("disentangled_attention_bias", "disentangled_att_bias")


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an object another method or part while the context is open."""
    owner.__dict__[name] = value
    try:
        yield
    finally:
        del owner.__dict__[name]


class BiasTable:
    """A T5 attention with `relative_attention_bias`: its bias is made for each example."""

    kind = "bias table"

    def __init__(
        self, name: str, attention: nn.Module, table: Instantiated | None, examples: Examples
    ) -> None:
        self.name = name
        self._attention: Any = attention
        self._table = table
        self._examples = examples

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether a module computes its bias as T5 does."""
        table = getattr(module, "relative_attention_bias", None)
        return isinstance(table, nn.Embedding) and hasattr(module, "compute_bias")

    @contextmanager
    def listening(self, batch_size: int) -> Iterator[None]:
        """Tap the bias while the context is open."""
        own = self._attention.compute_bias

        def compute_bias(*args: Any, **kwargs: Any) -> Tensor:
            if self._table is None or not self._examples.are_running:
                bias: Tensor = own(*args, **kwargs)
                return bias
            return self._tapped(self._table, own, args, kwargs)

        with (
            self._examples.counted(batch_size),
            _replaced(self._attention, "compute_bias", compute_bias),
        ):
            yield

    def remove(self) -> None:
        """Nothing to do: outside `listening` the attention has its own method."""

    def _tapped(
        self,
        table: Instantiated,
        own: Callable[..., Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Tensor:
        seen: list[Tensor] = []
        handle = self._attention.relative_attention_bias.register_forward_pre_hook(
            lambda _module, inputs: seen.append(inputs[0])
        )
        try:
            bias_1HQK = own(*args, **kwargs)
        finally:
            handle.remove()
        (buckets_QK,) = seen

        def record(_seen: Tensor, gradients_BHQK: Tensor) -> None:
            gradients_BSH = gradients_BHQK.permute(0, 2, 3, 1).flatten(1, 2).float()
            rows = self._attention.relative_attention_bias.num_embeddings
            sums_BRH = gradients_BSH.new_zeros(len(gradients_BSH), rows, gradients_BSH.shape[-1])
            table.add(sums_BRH.index_add_(1, buckets_QK.flatten(), gradients_BSH))

        bias_BHQK = bias_1HQK.expand(self._examples.batch_size, -1, -1, -1)
        return self._examples.raw_tap(bias_BHQK, bias_1HQK.new_zeros(()), record)


class PromptTable:
    """A peft model with a soft prompt: it makes the prompt once and repeats it for each example."""

    def __init__(self, model: Any, examples: Examples) -> None:
        self.name = "prompt"
        self.kind = ""
        self._model = model
        self._examples = examples

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether a model puts a trained prompt in front of the embedded tokens."""
        config = getattr(module, "active_peft_config", None)
        return str(getattr(config, "peft_type", "")).endswith(("PROMPT_TUNING", "P_TUNING"))

    @contextmanager
    def listening(self, batch_size: int) -> Iterator[None]:
        """Ask for one prompt while the context is open: its tapped layers make B rows of it."""
        own = self._model.get_prompt

        def get_prompt(batch_size: int, *args: Any, **kwargs: Any) -> Any:
            return own(1 if self._examples.are_running else batch_size, *args, **kwargs)

        with self._examples.counted(batch_size), _replaced(self._model, "get_prompt", get_prompt):
            yield

    def remove(self) -> None:
        """Nothing to do: outside `listening` the model has its own method."""


class _Rows:
    """[B, R, D] for a method that cuts [R, D] and puts a dimension in front of what it cut."""

    def __init__(self, table_BRD: Tensor) -> None:
        self._table_BRD = table_BRD

    def __getitem__(self, place: Any) -> _Rows:
        return _Rows(self._table_BRD[(slice(None), *(place if type(place) is tuple else (place,)))])

    def unsqueeze(self, _dimension: int) -> Tensor:
        return self._table_BRD


class _Repeated:
    """One copy for each example already, for a method that would make the copies."""

    def __init__(self, copies: Tensor) -> None:
        self._copies = copies

    def repeat(self, *_sizes: int) -> Tensor:
        return self._copies


class SharedTable:
    """A DeBERTa encoder: its table of relative positions is made for each example."""

    kind = "shared table"

    def __init__(
        self, name: str, encoder: nn.Module, table: Instantiated | None, examples: Examples
    ) -> None:
        self.name = name
        self._encoder: Any = encoder
        self._table = table
        self._examples = examples
        self._attentions: list[Any] = [
            module for module in encoder.modules() if any(hasattr(module, name) for name in _SCORES)
        ]

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether a module hands its table on as DeBERTa's encoders do."""
        table = getattr(module, "rel_embeddings", None)
        return isinstance(table, nn.Embedding) and hasattr(module, "get_rel_embedding")

    @contextmanager
    def listening(self, batch_size: int) -> Iterator[None]:
        """Hand on a tapped copy for each example while the context is open."""
        with ExitStack() as stack:
            stack.enter_context(self._examples.counted(batch_size))
            own = self._encoder.get_rel_embedding
            stack.enter_context(
                _replaced(self._encoder, "get_rel_embedding", lambda: self._expanded(own))
            )
            for attention in self._attentions:
                name = next(n for n in _SCORES if hasattr(attention, n))
                method = _scores_of(attention, getattr(attention, name))
                stack.enter_context(_replaced(attention, name, method))
            yield

    def remove(self) -> None:
        """Nothing to do: outside `listening` the encoder has its own methods."""

    def _expanded(self, own: Callable[[], Tensor]) -> Tensor:
        if not self._examples.are_running:
            return own()
        weight_RD = self._encoder.rel_embeddings.weight

        copies_BRD = weight_RD.expand(self._examples.batch_size, -1, -1)
        table = self._table
        if table is not None:
            copies_BRD = self._examples.raw_tap(
                copies_BRD, weight_RD.new_zeros(()), lambda _seen, back: table.add(back)
            )
        # Its own method reads the weight, and may normalise it: by a layer that is tapped itself.
        with _replaced(self._encoder, "rel_embeddings", SimpleNamespace(weight=copies_BRD)):
            return own()


def _scores_of(attention: Any, own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The method that adds relative positions to the scores, for a table with B rows."""
    copies_itself = hasattr(attention, "disentangled_attention_bias")

    def scores(query: Tensor, key: Tensor, positions: Any, table: Tensor, factor: int) -> Tensor:
        if table.ndim == 2:
            return own(query, key, positions, table, factor)
        if not copies_itself:
            return own(query, key, positions, _Rows(table), factor)
        split = attention.transpose_for_scores
        with _replaced(attention, "transpose_for_scores", lambda *args: _Repeated(split(*args))):
            return own(query, key, positions, _Rows(table), factor)

    return scores
