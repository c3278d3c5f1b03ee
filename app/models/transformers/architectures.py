"""What the library's decoders have in common, how they differ, and where each of them keeps its weights.

`read_decoder` takes a loaded network apart: from there on a decoder is tensors in order, whatever they were called.
Projections of the same rows become one product. The parts that were joined belong to nobody once the network is gone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Linear:
    """weight (O, I); bias (O), or None for none."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer norm; with `centred` false by the root of the mean square alone (Zhang and Sennrich 2019)."""

    weight: Tensor
    bias: Tensor | None
    epsilon: float
    centred: bool = True


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of H heads with A numbers in all, over D numbers.

    own (3 A, D): queries, keys and values of the row itself. query (A, D), source (2 A, D): keys and values of what was
    encoded. enter (F, D), or (2 F, D) where what is activated gates the other half. Each norm belongs to its own part.
    """

    own: Linear
    own_output: Linear
    own_norm: Norm
    query: Linear
    source: Linear
    source_output: Linear
    source_norm: Norm
    enter: Linear
    leave: Linear
    feed_norm: Norm


@dataclass(frozen=True, slots=True)
class Architecture:
    """How a decoder computes, beyond its weights.

    norm_first: a part normalises what it reads (pre-norm), not the sum that it writes (post-norm).
    attention_scale: what queries times keys are multiplied by.
    position_offset: the row of the position table that the first token has.
    embedding_scale, output_scale: what embeddings, and what the output layer reads, are multiplied by.
    """

    heads: int
    norm_first: bool
    attention_scale: float
    activation: Activation
    gated: bool = False
    embedding_scale: float = 1.0
    output_scale: float = 1.0
    position_offset: int = 0


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder, taken apart. V tokens, D numbers.

    embedding (V, D). positions (P, D): None where positions are relative.
    relative (H, N): what is added to the scores of N tokens in the eyes of the last; None where positions are absolute.
    """

    architecture: Architecture
    embedding: Tensor
    positions: Tensor | None
    relative: Tensor | None
    embedding_norm: Norm | None
    layers: tuple[Layer, ...]
    final_norm: Norm | None
    output: Linear


def read_decoder(network: PreTrainedModel, longest: int) -> Decoder:
    """The decoder of a network of one of `ARCHITECTURES`. longest: most positions that a row can have."""
    return ARCHITECTURES[network.config.model_type](network, longest)


def _bart(network: Any, _: int, *, norm_first: bool = False, offset: int = 2) -> Decoder:
    """BART (Lewis et al. 2020) and those that were made after it."""
    config, decoder = network.config, network.model.decoder
    return Decoder(
        Architecture(
            heads=config.decoder_attention_heads,
            norm_first=norm_first,
            attention_scale=(config.d_model // config.decoder_attention_heads) ** -0.5,
            activation=_activation(config.activation_function),
            embedding_scale=config.d_model**0.5 if config.scale_embedding else 1.0,
            position_offset=offset,
        ),
        embedding=decoder.embed_tokens.weight.detach(),
        positions=decoder.embed_positions.weight.detach(),
        relative=None,
        embedding_norm=_norm(getattr(decoder, "layernorm_embedding", None)),
        layers=tuple(_bart_layer(layer) for layer in decoder.layers),
        final_norm=_norm(getattr(decoder, "layer_norm", None)),
        output=Linear(network.lm_head.weight.detach(), network.final_logits_bias[0].detach()),
    )


def _bart_layer(layer: Any) -> Layer:
    own, source = layer.self_attn, layer.encoder_attn
    return Layer(
        own=_joined(own.q_proj, own.k_proj, own.v_proj),
        own_output=_joined(own.out_proj),
        own_norm=_some_norm(layer.self_attn_layer_norm),
        query=_joined(source.q_proj),
        source=_joined(source.k_proj, source.v_proj),
        source_output=_joined(source.out_proj),
        source_norm=_some_norm(layer.encoder_attn_layer_norm),
        enter=_joined(layer.fc1),
        leave=_joined(layer.fc2),
        feed_norm=_some_norm(layer.final_layer_norm),
    )


def _mbart(network: Any, longest: int) -> Decoder:
    return _bart(network, longest, norm_first=True)


def _pegasus(network: Any, longest: int) -> Decoder:
    return _bart(network, longest, norm_first=True, offset=0)


def _marian(network: Any, longest: int) -> Decoder:
    return _bart(network, longest, offset=0)


def _t5(network: Any, longest: int) -> Decoder:
    """T5 (Raffel et al. 2020), and with a gated activation T5 1.1, Flan-T5 and mT5."""
    config, decoder = network.config, network.decoder
    relative = decoder.block[0].layer[0].SelfAttention.compute_bias(1, longest, past_seen_tokens=longest - 1)
    return Decoder(
        Architecture(
            heads=config.num_heads,
            norm_first=True,
            attention_scale=1.0,
            activation=_activation(config.dense_act_fn),
            gated=config.is_gated_act,
            output_scale=config.d_model**-0.5 if getattr(config, "scale_decoder_outputs", False) else 1.0,
        ),
        embedding=decoder.embed_tokens.weight.detach(),
        positions=None,
        relative=relative.detach()[0, :, 0],
        embedding_norm=None,
        layers=tuple(_t5_layer(*block.layer) for block in decoder.block),
        final_norm=_norm(decoder.final_layer_norm),
        output=_joined(network.lm_head),
    )


def _t5_layer(own: Any, source: Any, feed: Any) -> Layer:
    asks, reads, dense = own.SelfAttention, source.EncDecAttention, feed.DenseReluDense
    enter = (dense.wi_0, dense.wi_1) if hasattr(dense, "wi_0") else (dense.wi,)
    return Layer(
        own=_joined(asks.q, asks.k, asks.v),
        own_output=_joined(asks.o),
        own_norm=_some_norm(own.layer_norm),
        query=_joined(reads.q),
        source=_joined(reads.k, reads.v),
        source_output=_joined(reads.o),
        source_norm=_some_norm(source.layer_norm),
        enter=_joined(*enter),
        leave=_joined(dense.wo),
        feed_norm=_some_norm(feed.layer_norm),
    )


ARCHITECTURES: dict[str, Callable[[Any, int], Decoder]] = {
    "bart": _bart,
    "mbart": _mbart,
    "pegasus": _pegasus,
    "marian": _marian,
    "t5": _t5,
    "mt5": _t5,
}


def _joined(*parts: nn.Linear) -> Linear:
    """One product for several with the same input."""
    if len(parts) == 1:
        bias = parts[0].bias
        return Linear(parts[0].weight.detach(), None if bias is None else bias.detach())
    biases = [part.bias.detach() for part in parts if part.bias is not None]
    return Linear(torch.cat([part.weight.detach() for part in parts]), torch.cat(biases) if biases else None)


def _norm(module: Any) -> Norm | None:
    return None if module is None else _some_norm(module)


def _some_norm(module: Any) -> Norm:
    if isinstance(module, nn.LayerNorm):
        return Norm(module.weight.detach(), module.bias.detach(), module.eps)
    return Norm(module.weight.detach(), None, module.variance_epsilon, centred=False)


def _activation(name: str) -> Activation:
    known: dict[str, Activation] = {"gelu": F.gelu, "relu": F.relu, "gelu_new": _tanh_gelu}
    return known.get(name) or ACT2FN[name]


def _tanh_gelu(values: Tensor) -> Tensor:
    return F.gelu(values, approximate="tanh")
