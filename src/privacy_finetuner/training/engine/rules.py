"""Per-example gradients of one parameter: their norms, and their weighted sum.

Two kinds cover everything. `Instantiated` keeps the per-example gradients themselves: right for
small parameters (biases, norm scales, LoRA factors, short matrices). `Matrix` keeps what the layer
saw and what came back, and never forms a per-example gradient when that would be dearer: the norm
comes from Gram matrices (Goodfellow 2015; Li et al. 2022, "ghost clipping"), the sum from one
matrix product. Both are exact, also when a parameter is used several times in one forward pass.

Shapes: B examples, T positions, D input features, P output features, N numbers in a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# A layer's Gram matrices or per-example gradients are formed in pieces of at most this many
# numbers (128 MiB in float32), so that a step's memory does not grow with T^2 or with B x D x P.
PIECE_NUMBERS = 32 * 2**20

# A layer's per-example gradients [B, D, P] are kept where they take at most this many times the
# room of what they stand for: its input [B, T, D] and the gradient of its output [B, T, P]. They
# are the quicker way there too: a Gram norm costs T^2 (D + P) >= T D P, and the sum a product more.
KEEP_ROOM = 1.0

# A norm computed without the gradient errs by some 2^-22 of S^2 in its square, where S is the sum
# of the sizes of the products it is made of. Where those cancel, the error could hide a gradient of
# any length. So a norm counts as at least 2^-6 S: then the error is below 5e-4 of it, inside
# `noise.ROUNDING_MARGIN`. Unaligned products stay above it up to 2^12 positions.
_LEAST_NORM_PER_SIZE = 2.0**-6


class Instantiated:
    """A parameter whose per-example gradients are kept, added over its uses."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self._gradients_BN: Tensor | None = None

    @property
    def is_used(self) -> bool:
        """Whether the parameter was used since the last sum."""
        return self._gradients_BN is not None

    def add(self, gradients: Tensor) -> None:
        """Add the per-example gradients of one use: B first, then the parameter's shape."""
        gradients_BN = gradients.reshape(gradients.shape[0], -1).float()
        if self._gradients_BN is None:
            self._gradients_BN = gradients_BN
        else:
            self._gradients_BN = self._gradients_BN + gradients_BN

    def norms_squared(self) -> Tensor | None:
        """Squared L2 norm of each example's gradient, or `None` when the parameter was not used."""
        if self._gradients_BN is None:
            return None
        norms_B: Tensor = torch.linalg.vector_norm(self._gradients_BN, dim=1)
        return norms_B.square()

    def add_weighted_sum(self, factors_B: Tensor, target: Tensor) -> None:
        """Add `sum_b factors[b] * gradient[b]` to `target`, then forget the gradients."""
        if self._gradients_BN is not None:
            gradients_BN = _without_refused(self._gradients_BN, factors_B)
            target.view(-1).add_(factors_B @ gradients_BN)
        self.clear()

    def clear(self) -> None:
        """Forget the gradients."""
        self._gradients_BN = None


class Matrix:
    """The weight of linear layers and look-up tables, alone or shared between them (tied).

    `transposed` tells the layout: a linear layer and a table hold [P, D] and [rows, D]; a GPT-2
    `Conv1D` holds [D, P].
    """

    def __init__(self, parameter: nn.Parameter, *, transposed: bool = False) -> None:
        self.parameter = parameter
        self.is_shared = False
        self._transposed = transposed
        self._dense: list[tuple[Tensor, Tensor]] = []
        self._look_ups: list[tuple[Tensor, Tensor]] = []
        self._kept = Instantiated(parameter)

    def add_dense(self, inputs: Tensor, gradients: Tensor) -> None:
        """Record a product: inputs [B, ..., D] and gradients of its outputs [B, ..., P]."""
        inputs_BTD = inputs.reshape(inputs.shape[0], -1, inputs.shape[-1])
        gradients_BTP = gradients.reshape(gradients.shape[0], -1, gradients.shape[-1])
        keep = not self.is_shared and not self._dense
        if keep and (self._kept.is_used or _keeping_is_cheaper(inputs_BTD, gradients_BTP)):
            left, right = inputs_BTD, gradients_BTP
            if not self._transposed:
                left, right = gradients_BTP, inputs_BTD
            self._kept.add(left.transpose(1, 2) @ right)
        else:
            self._dense.append((inputs_BTD, gradients_BTP))

    def add_look_up(self, rows: Tensor, gradients: Tensor, *, ignored_row: int | None) -> None:
        """Record a look-up: row numbers [B, ...] and gradients of what was found [B, ..., D]."""
        rows_BT = rows.reshape(rows.shape[0], -1)
        gradients_BTD = gradients.reshape(gradients.shape[0], -1, gradients.shape[-1])
        if ignored_row is not None:
            gradients_BTD = gradients_BTD.masked_fill((rows_BT == ignored_row).unsqueeze(-1), 0.0)
        self._look_ups.append((rows_BT, gradients_BTD))

    def norms_squared(self) -> Tensor | None:
        """Squared L2 norm of each example's gradient, or `None` when the parameter was not used."""
        parts: list[Tensor] = []
        sizes: list[Tensor] = []
        kept_B = self._kept.norms_squared()
        if kept_B is not None:
            parts.append(kept_B)
        if self._dense:
            inputs_BTD, gradients_BTP = _joined(self._dense)
            square_B, size_B = _product_norms_squared(inputs_BTD, [gradients_BTP])
            parts.append(square_B)
            sizes.append(size_B)
        if self._look_ups:
            look_up = _joined(self._look_ups)
            parts.append(_look_up_norms_squared(*look_up))
            sizes.append(_lengths(look_up[1]).sum(dim=1))
        if self._dense and self._look_ups:
            parts.append(2 * _cross_products(_joined(self._dense), look_up))
        if not parts:
            return None
        squares_B = _total(parts)
        if not sizes:
            return squares_B
        return squares_B.maximum((_LEAST_NORM_PER_SIZE * _total(sizes)).square())

    def lone_product(self) -> tuple[Tensor, Tensor] | None:
        """The one product that the gradient is made of, or `None` where it is anything else."""
        if len(self._dense) != 1 or self._look_ups or self._kept.is_used:
            return None
        return self._dense[0]

    def add_weighted_sum(self, factors_B: Tensor, target: Tensor) -> None:
        """Add `sum_b factors[b] * gradient[b]` to `target`, then forget everything recorded."""
        self._kept.add_weighted_sum(factors_B, target)
        for use in self._dense:
            left, right = self._weighted_factors(use, factors_B)
            _add_product(target, left, right)
        for rows_BT, gradients_BTD in self._look_ups:
            scaled_BTD = _scaled(gradients_BTD, factors_B)
            target.index_add_(0, rows_BT.flatten(), scaled_BTD.flatten(0, 1).to(target.dtype))
        self.clear()

    def write_weighted_sum(self, factors_B: Tensor, target: Tensor) -> None:
        """As `add_weighted_sum`, over whatever `target` held before: no pass that sets zeros."""
        if self._dense and not self._kept.is_used:
            left, right = self._weighted_factors(self._dense.pop(0), factors_B)
            torch.mm(left.to(target.dtype).transpose(0, 1), right.to(target.dtype), out=target)
        else:
            target.zero_()
        self.add_weighted_sum(factors_B, target)

    def _weighted_factors(
        self, use: tuple[Tensor, Tensor], factors_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Two matrices whose product, the first transposed, is the weighted sum of one use."""
        left, right = _weighted(*use, factors_B)
        if not self._transposed:
            left, right = right, left
        return left.flatten(0, 1), right.flatten(0, 1)

    def clear(self) -> None:
        """Forget everything recorded."""
        self._kept.clear()
        self._dense.clear()
        self._look_ups.clear()


def _joined(uses: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """One use of length T1 + T2 has the same gradient as two uses of lengths T1 and T2."""
    if len(uses) == 1:
        return uses[0]
    return torch.cat([u[0] for u in uses], dim=1), torch.cat([u[1] for u in uses], dim=1)


def _keeping_is_cheaper(inputs_BTD: Tensor, gradients_BTP: Tensor) -> bool:
    _, length, d = inputs_BTD.shape
    p = gradients_BTP.shape[-1]
    return d * p <= KEEP_ROOM * length * (d + p)


def joint_norms_squared(products: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Squared norm of the gradients of layers that read one input, all of them together.

    They are one layer with their outputs side by side: ||[A^T G1, A^T G2]||^2 is
    <A A^T, G1 G1^T + G2 G2^T>, with one Gram matrix of the input for all.

    Args:
        products: (input, gradient of the output) of each layer, the same input in all of them.
    """
    square_B, size_B = _product_norms_squared(products[0][0], [g for _, g in products])
    return square_B.maximum((_LEAST_NORM_PER_SIZE * size_B).square())


def _product_norms_squared(inputs_BTD: Tensor, outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """||A^T G||^2 for each example, and the sum of the sizes of the products it is made of.

    G is the gradients of all `outputs` [B, T, P] side by side. No tensor of more than
    `PIECE_NUMBERS` numbers is formed on the way, beside A and G in float32.
    """
    batch, length, d = inputs_BTD.shape
    p = sum(gradients_BTP.shape[-1] for gradients_BTP in outputs)
    inputs_BTD = inputs_BTD.float()
    outputs = [gradients_BTP.float() for gradients_BTP in outputs]
    if length == 1:
        back_B = _total([_row_norms_squared(gradients_BTP) for gradients_BTP in outputs])
        square_B = _row_norms_squared(inputs_BTD) * back_B
        return square_B, square_B.sqrt()
    if d * p < length * (d + p) / 2:
        back_BT = _total([_lengths(gradients_BTP).square() for gradients_BTP in outputs])
        size_B = (_lengths(inputs_BTD) * back_BT.sqrt()).sum(dim=1)
        squares = [_instantiated_norms_squared(inputs_BTD, output) for output in outputs]
        return _total(squares), size_B
    examples = max(1, PIECE_NUMBERS // (length * length))
    pieces = [slice(start, start + examples) for start in range(0, batch, examples)]
    found = [_gram_norms_squared(inputs_BTD[at], [g[at] for g in outputs]) for at in pieces]
    return torch.cat([square_B for square_B, _ in found]), torch.cat(
        [size_B for _, size_B in found]
    )


def _gram_norms_squared(inputs_BTD: Tensor, outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """||A^T G||^2 = <A A^T, G G^T>, in blocks of rows of the lower triangle.

    The diagonal holds the squared sizes of the products that the norm is a sum of.
    """
    batch, length, _ = inputs_BTD.shape
    blocks = max(2 if length >= 64 else 1, -(-batch * length * length // PIECE_NUMBERS))
    rows = -(-length // blocks)
    square_B = inputs_BTD.new_zeros(batch)
    size_B = torch.zeros_like(square_B)
    for start in range(0, length, rows):
        stop = min(start + rows, length)
        gram, back = (_gram_block(tensors, start, stop) for tensors in ([inputs_BTD], outputs))
        gram *= back
        square_B += 2 * gram[:, :, :start].sum(dim=(1, 2)) + gram[:, :, start:].sum(dim=(1, 2))
        diagonal_BR = gram[:, :, start:].diagonal(dim1=1, dim2=2)
        size_B += diagonal_BR.clamp(min=0.0).sqrt().sum(dim=1)
    return square_B.clamp(min=0.0), size_B


def _gram_block(tensors: Sequence[Tensor], start: int, stop: int) -> Tensor:
    """Rows from `start` to `stop` of V V^T, columns up to `stop`; V is the tensors side by side."""
    first_BTD, *others = tensors
    block_BRS = first_BTD[:, start:stop] @ first_BTD[:, :stop].transpose(1, 2)
    for values_BTP in others:
        block_BRS.baddbmm_(values_BTP[:, start:stop], values_BTP[:, :stop].transpose(1, 2))
    return block_BRS


def _instantiated_norms_squared(inputs_BTD: Tensor, gradients_BTP: Tensor) -> Tensor:
    """The same norm through per-example products, a few examples at a time, none of them kept."""
    batch, _, d = inputs_BTD.shape
    p = gradients_BTP.shape[-1]
    size = max(1, PIECE_NUMBERS // (d * p))
    pieces = []
    for start in range(0, batch, size):
        piece = slice(start, start + size)
        products = inputs_BTD[piece].transpose(1, 2) @ gradients_BTP[piece]
        pieces.append(torch.linalg.vector_norm(products, dim=(1, 2)).square())
    return torch.cat(pieces)


def _total(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).sum(dim=0)


def _lengths(values_BTD: Tensor) -> Tensor:
    """L2 norm of each position's vector, [B, T]."""
    lengths_BT: Tensor = torch.linalg.vector_norm(values_BTD.float(), dim=2)
    return lengths_BT


def _row_norms_squared(values_BTD: Tensor) -> Tensor:
    norms_B: Tensor = torch.linalg.vector_norm(values_BTD.float().flatten(1), dim=1)
    return norms_B.square()


def _look_up_norms_squared(rows_BT: Tensor, gradients_BTD: Tensor) -> Tensor:
    """Add the gradients that one example sends to one row, then take the norms of the rows."""
    batch, length = rows_BT.shape
    span = int(rows_BT.max()) + 1 if rows_BT.numel() else 1
    examples_B1 = torch.arange(batch, device=rows_BT.device).unsqueeze(1)
    keys, places = torch.unique((examples_B1 * span + rows_BT).flatten(), return_inverse=True)
    sums_KD = torch.zeros(
        len(keys), gradients_BTD.shape[-1], dtype=torch.float32, device=gradients_BTD.device
    )
    sums_KD.index_add_(0, places, gradients_BTD.reshape(batch * length, -1).float())
    total_B = torch.zeros(batch, dtype=torch.float32, device=gradients_BTD.device)
    return total_B.index_add_(0, keys // span, sums_KD.square().sum(dim=1))


def _cross_products(dense: tuple[Tensor, Tensor], look_up: tuple[Tensor, Tensor]) -> Tensor:
    """<dense gradient, look-up gradient> of a tied weight, without forming either.

    The dense gradient's row v is sum_t G[t, v] h[t]; the look-up adds e[s] to row token[s]. Hence
    the product is sum_{s,t} G[t, token[s]] (h[t] . e[s]): the exact norm of a shared embedding
    (Ding et al. 2024, "phantom clipping").
    """
    inputs_BTD, gradients_BTP = dense
    rows_BS, found_BSD = look_up
    batch, length, _ = inputs_BTD.shape
    if batch > 1 and batch * length * rows_BS.shape[1] > PIECE_NUMBERS:
        half = batch // 2
        first = _cross_products(
            (inputs_BTD[:half], gradients_BTP[:half]), (rows_BS[:half], found_BSD[:half])
        )
        second = _cross_products(
            (inputs_BTD[half:], gradients_BTP[half:]), (rows_BS[half:], found_BSD[half:])
        )
        return torch.cat([first, second])
    products_BTS = (inputs_BTD @ found_BSD.to(inputs_BTD.dtype).transpose(1, 2)).float()
    index_BTS = rows_BS.unsqueeze(1).expand(-1, gradients_BTP.shape[1], -1)
    picked_BTS = gradients_BTP.gather(2, index_BTS)
    return (products_BTS * picked_BTS).sum(dim=(1, 2))


def _weighted(
    inputs_BTD: Tensor, gradients_BTP: Tensor, factors_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Scale the narrower of the two, and silence refused examples in both."""
    if inputs_BTD.shape[-1] <= gradients_BTP.shape[-1]:
        return _scaled(inputs_BTD, factors_B), _without_refused(gradients_BTP, factors_B)
    return _without_refused(inputs_BTD, factors_B), _scaled(gradients_BTP, factors_B)


def _scaled(values_BTD: Tensor, factors_B: Tensor) -> Tensor:
    """Times the factors, in float32 at least: a factor rounded to bfloat16 breaks the bound."""
    wide_BTD = values_BTD.to(torch.promote_types(values_BTD.dtype, torch.float32))
    factors_B11 = factors_B.view(-1, 1, 1).to(wide_BTD.dtype)
    return _without_refused(wide_BTD, factors_B) * factors_B11


def _without_refused(values: Tensor, factors_B: Tensor) -> Tensor:
    """Zero the examples whose factor is zero: zero times infinity would be NaN."""
    refused_B = factors_B == 0
    if not bool(refused_B.any()):
        return values
    return values.masked_fill(refused_B.view(-1, *[1] * (values.ndim - 1)), 0.0)


def _add_product(target: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left^T right to target, in target's type."""
    target.addmm_(left.to(target.dtype).transpose(0, 1), right.to(target.dtype))
