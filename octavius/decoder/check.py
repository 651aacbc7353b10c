"""Checks on a few tokens that a language model is used correctly here: results equal its own forward method.

Training pads or packs texts, passes embeddings instead of ids, and computes logits at answer positions only;
answers are generated in left-padded batches; likelihoods continue from a cache. Each of these is right for
most architectures and silently wrong for some: recurrent layers carry state from one packed text to the next,
absolute positions count padding. So nothing is inferred from the name of an architecture. When a model is
loaded, some ten passes over a dozen tokens compare every use with the model's own loss on a single text.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from octavius.decoder.packed_attention import PACKED, recorded_windows
from octavius.decoder.passes import (
    attend_by,
    cached_options,
    log_likelihoods,
    logits_at,
    packed_options,
    rows_of,
    takes,
)
from octavius.instruction.tokenizer import Tokenizer

WORDS = "a red ball lies beside the big blue chair in a corner of the room, and the cat sleeps under a lamp"
LENGTHS = (5, 9)
"""Numbers of tokens of the two texts that are run together."""

LARGE = 10**9
"""Number of parameters from which on only the first layers are checked, at least one of each kind."""

WIDENED = 2 * 10**9
"""Number of parameters up to which the check runs in float32.

Rounding hides differences, and half precision is slow on many CPUs.
"""

EXACT, ROUNDED = 1e-3, 0.1
"""Tolerances in nats, relative to log-probabilities above 1.

The first is for every token in float32, the second for the median token in lower precision, where rounding
may change the expert of a token.
"""


@dataclass(frozen=True)
class Capabilities:
    """The uses that a language model supports.

    Attributes:
        packing: why texts cannot be packed into a row without padding; None if they can.
        longest_packed: maximum length of a packed text, if the model has an attention window that it does not
            pass to the packed attention; else None.
        caching: whether several texts can continue from the cache of one prompt.
    """

    packing: str | None = None
    longest_packed: int | None = None
    caching: bool = True


def check_model(lm: PreTrainedModel, tokenizer: Tokenizer, attention: str) -> Capabilities:
    """Compares every use of a language model with its own loss on single texts.

    Args:
        lm: the model, on a device that can run it; its weights, mode and the random state are unchanged
            afterwards.
        tokenizer: its tokenizer.
        attention: name of its attention implementation.

    Returns:
        The uses that it supports besides training and generation in padded batches.

    Raises:
        ValueError: losses or generated answers would be wrong; the message says which and by how much.
    """
    if _size(lm) >= LARGE:
        with _first_layers(lm) as cut:
            try:
                return _check(lm, tokenizer, attention)
            except ValueError:
                if not cut:
                    raise  # a truncated model may fail although the whole one works: check all layers
    return _check(lm, tokenizer, attention)


@torch.no_grad()
def _check(lm: PreTrainedModel, tokenizer: Tokenizer, attention: str) -> Capabilities:
    training = lm.training
    try:
        with torch.random.fork_rng(devices=[]), in_float32(lm):
            attend_by(lm, attention)
            texts = _texts(tokenizer)
            _check_training_mode(lm, texts)
            lm.eval()
            alone = [_own(lm, text) for text in texts]
            _check_padded(lm, texts, alone)
            _check_generation(lm, tokenizer, texts)
            caching = _can_cache(lm, texts)
            packing, longest = _can_pack(lm, texts, alone, attention)
    finally:
        attend_by(lm, attention)
        lm.train(training)
    return Capabilities(packing, longest, caching)


def _texts(tokenizer: Tokenizer) -> list[Tensor]:
    """Token ids of two different texts, and of a prefix of the second."""
    ids = torch.tensor(tokenizer.encode(WORDS))
    ids = ids.repeat(-(-sum(LENGTHS) // len(ids)))
    first, second = ids[: LENGTHS[0]], ids[LENGTHS[0] : sum(LENGTHS)]
    return [first, second, second[:6]]


def _own(lm: PreTrainedModel, ids: Tensor) -> Tensor:
    """Log-probabilities (T - 1,) of a single text by the model's own forward method.

    Raises:
        ValueError: the model cannot be run on text, or its own loss is not that of the next token.
    """
    name, row = type(lm).__name__, ids.to(lm.device)[None]
    options: dict[str, Any] = {"use_cache": False} if takes(lm, "use_cache") else {}
    try:
        with _without_router_loss(lm):
            out = lm(input_ids=row, labels=row, **options)
            loss, logits = float(out.loss), out.logits
    except Exception as error:  # models that need more than text raise all kinds of errors
        raise ValueError(f"{name} cannot be run on text alone: {type(error).__name__}: {error}") from None
    if logits.shape[:2] != row.shape:
        raise ValueError(
            f"{name} gives logits of the shape {tuple(logits.shape)} for {row.shape[1]} tokens of one text, expected "
            "one row for each"
        )
    found = log_likelihoods(logits[0, :-1], row[0, 1:])
    if differ(lm, -found.mean()[None], torch.tensor([loss])):
        raise ValueError(
            f"{name} is not trained to tell the next token: its own loss on a text is {loss:.3f}, the mean "
            f"cross-entropy of the next token {-float(found.mean()):.3f}"
        )
    return found


def _check_training_mode(lm: PreTrainedModel, texts: Sequence[Tensor]) -> None:
    """Raises ValueError if the model needs more than embeddings and a mask in training mode."""
    lm.train()
    try:
        _padded(lm, texts)
    except Exception as error:
        raise ValueError(
            f"{type(lm).__name__} cannot be trained on embeddings of padded texts: {type(error).__name__}: {error}"
        ) from None


def _padded(lm: PreTrainedModel, texts: Sequence[Tensor]) -> list[Tensor]:
    """Log-probabilities of each text as in training: in one batch padded on the right."""
    ids = pad_sequence(list(texts), batch_first=True).to(lm.device)
    lengths = torch.tensor([len(text) for text in texts], device=lm.device)
    mask = (torch.arange(ids.shape[1], device=lm.device) < lengths[:, None]).long()
    wanted = torch.zeros_like(mask, dtype=torch.bool)
    wanted[:, :-1] = mask[:, 1:].bool()
    logits, _ = logits_at(lm, embed(lm, ids), wanted, attention_mask=mask, use_cache=False)
    return list(log_likelihoods(logits, ids[:, 1:][wanted[:, :-1]]).split((lengths - 1).tolist()))


def embed(lm: PreTrainedModel, ids: Tensor) -> Tensor:
    """Word embeddings (..., D) of ids (...)."""
    return cast(Tensor, lm.get_input_embeddings()(ids))


def _check_padded(lm: PreTrainedModel, texts: Sequence[Tensor], alone: Sequence[Tensor]) -> None:
    found = _padded(lm, texts)
    if differ(lm, alone[2], alone[1][: len(alone[2])]):
        raise ValueError(
            f"{type(lm).__name__} looks at later tokens: the loss of a text's first tokens changes with what follows "
            "them. It is no causal language model; some become one by is_decoder: true in their config.json"
        )
    for text, one in zip(found, alone, strict=True):
        if differ(lm, text, one):
            raise ValueError(
                f"{type(lm).__name__} cannot be tuned here: the loss of a text that enters as embeddings in a padded "
                f"batch is {-float(text.mean()):.3f}, the model's own {-float(one.mean()):.3f}"
            )


def _check_generation(lm: PreTrainedModel, tokenizer: Tokenizer, texts: Sequence[Tensor]) -> None:
    """Raises ValueError if answers in a left-padded batch differ from those to single prompts."""
    embeddings, mask = _left_padded(lm, texts[:2])
    name = type(lm).__name__
    try:
        out: Any = lm.generate(  # type: ignore[operator]
            inputs_embeds=embeddings,
            attention_mask=mask,
            do_sample=False,
            num_beams=1,
            max_new_tokens=3,
            min_new_tokens=3,
            pad_token_id=tokenizer.pad_id,
            eos_token_id=tokenizer.eos_id,
            return_dict_in_generate=True,
            output_logits=True,
        )
        new = out.sequences.cpu()
    except Exception as error:
        raise ValueError(
            f"{name} cannot answer prompts that are given as embeddings: {type(error).__name__}: {error}"
        ) from None
    for row, text in enumerate(texts[:2]):
        expected = _own(lm, torch.cat([text, new[row]]))[-3:]
        steps = torch.stack([step[row] for step in out.logits])
        found = log_likelihoods(steps, new[row].to(steps.device))
        if differ(lm, found, expected):
            raise ValueError(
                f"{name} cannot answer in batches: three tokens that it generates in a batch padded on the left have "
                f"the log-probability {float(found.sum()):.3f}, and by its own forward method "
                f"{float(expected.sum()):.3f}"
            )


def _left_padded(lm: PreTrainedModel, texts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Embeddings (B, T, D) and attention mask (B, T), padded on the left."""
    ids = pad_sequence(list(texts), batch_first=True, padding_side="left").to(lm.device)
    lengths = torch.tensor([[len(text)] for text in texts], device=lm.device)
    mask = (torch.arange(ids.shape[1], device=lm.device) >= ids.shape[1] - lengths).long()
    return embed(lm, ids), mask


def _can_cache(lm: PreTrainedModel, texts: Sequence[Tensor]) -> bool:
    """Whether texts that continue from a cached prompt get the same log-probabilities as after the prompt."""
    prompts, candidates = texts[:2], torch.stack([texts[1][4:7], texts[0][1:4], texts[1][:3]]).to(lm.device)
    embeddings, mask = _left_padded(lm, prompts)
    last = torch.zeros_like(mask, dtype=torch.bool)
    last[:, -1] = True
    try:
        options = cached_options(lm, mask, embeddings.shape[1], None)
        first, cache = logits_at(lm, embeddings, last, **options)
        for rows in ([1, 0, 1], [0, 0, 1]):  # twice, to check that the first use leaves the cache unchanged
            part = torch.tensor(rows, device=lm.device)
            whole = torch.cat([mask[part], torch.ones_like(candidates)], 1)
            options = cached_options(lm, whole, candidates.shape[1], rows_of(cache, part))
            wanted = torch.ones_like(candidates, dtype=torch.bool)
            rest, _ = logits_at(lm, embed(lm, candidates), wanted, **options)
            logits = torch.cat([first[part, None], rest.unflatten(0, candidates.shape)[:, :-1]], 1)
            for row, said, text in zip(rows, log_likelihoods(logits, candidates), candidates, strict=True):
                ours = _own(lm, torch.cat([prompts[row], text.cpu()]))[-len(text) :]
                if differ(lm, said, ours):
                    return False
    except Exception:  # some caches cannot select rows; likelihoods are then computed without a cache
        return False
    return True


def _can_pack(
    lm: PreTrainedModel, texts: Sequence[Tensor], alone: Sequence[Tensor], attention: str
) -> tuple[str | None, int | None]:
    """Why texts cannot be packed, or None; and the maximum length of a packed text, or None."""
    name = type(lm).__name__
    ids = torch.cat(list(texts)).to(lm.device)[None]
    lengths = torch.tensor([len(text) for text in texts])
    segment_ids = torch.repeat_interleave(torch.arange(len(texts)), lengths).to(lm.device)[None]
    wanted = torch.zeros_like(ids, dtype=torch.bool)
    wanted[:, :-1] = segment_ids[:, 1:] == segment_ids[:, :-1]
    try:
        attend_by(lm, PACKED)
        with recorded_windows() as windows:
            options: dict[str, Any] = packed_options(segment_ids, torch.ones_like(ids))
            logits, _ = logits_at(lm, embed(lm, ids), wanted, use_cache=False, **options)
        found = log_likelihoods(logits, ids[:, 1:][wanted[:, :-1]])
    except Exception as error:
        return f"the attention of {name} cannot be run text by text ({type(error).__name__}: {error})", None
    finally:
        attend_by(lm, attention)
    for text, ours in zip(found.split((lengths - 1).tolist()), alone, strict=True):
        if differ(lm, text, ours):
            return (
                f"in {name} texts that share a row change each other, as in layers that carry a state: the loss of "
                f"one is {-float(text.mean()):.3f} there, and {-float(ours.mean()):.3f} alone"
            ), None
    # The window that a layer passes on may differ by one from that in the configuration.
    unknown = [window for window in _windows(lm) if not windows & {window - 1, window, window + 1}]
    return None, min(unknown, default=None)


def _windows(lm: PreTrainedModel) -> set[int]:
    """Sizes of attention windows or chunks in the configuration, in tokens."""
    config = lm.config.get_text_config(decoder=True)
    keys = ("sliding_window", "window_size", "attention_window", "attention_chunk_size", "local_attention")
    return {
        value
        for key, value in config.to_dict().items()
        if key.endswith(keys) and isinstance(value, int) and not isinstance(value, bool) and value > 1
    }


def differ(lm: PreTrainedModel, found: Tensor, expected: Tensor) -> bool:
    """Whether log-probabilities differ by more than rounding errors."""
    found, expected = found.float().cpu(), expected.float().cpu()
    apart = (found - expected).abs() / expected.abs().clamp(min=1)
    if not bool(apart.isfinite().all()):
        return True
    exact = all(part.dtype == torch.float32 for part in lm.parameters())
    return bool(apart.max() > EXACT) if exact else bool(apart.median() > ROUNDED)


def _size(lm: PreTrainedModel) -> int:
    return sum(part.numel() for part in lm.parameters())


@contextmanager
def in_float32(lm: PreTrainedModel) -> Iterator[None]:
    """Converts the weights to float32 for the duration of the block, unless the model is large or quantised."""
    tensors = [*lm.parameters(), *lm.buffers()]
    held = [(tensor, tensor.dtype) for tensor in tensors if tensor.dtype in (torch.bfloat16, torch.float16)]
    if _size(lm) > WIDENED or not all(part.is_floating_point() for part in lm.parameters()):
        held = []
    for tensor, _ in held:
        tensor.data = tensor.data.float()
    try:
        yield
    finally:
        for tensor, dtype in held:
            tensor.data = tensor.data.to(dtype)


@contextmanager
def _without_router_loss(lm: PreTrainedModel) -> Iterator[None]:
    """Switches off the auxiliary loss that some mixture-of-experts models add to their own loss."""
    configs = [lm.config, lm.config.get_text_config(decoder=True)]
    held = [getattr(config, "output_router_logits", None) for config in configs]
    for config, value in zip(configs, held, strict=True):
        if value:
            config.output_router_logits = False
    try:
        yield
    finally:
        for config, value in zip(configs, held, strict=True):
            if value:
                config.output_router_logits = value


@contextmanager
def _first_layers(lm: PreTrainedModel) -> Iterator[bool]:
    """Truncates a deep model to its first layers, at least one of each kind; yields whether it was truncated."""
    lists = [(name, part) for name, part in lm.named_modules() if isinstance(part, nn.ModuleList)]
    if not lists:
        yield False
        return
    name, blocks = max(lists, key=lambda item: len(item[1]))
    kinds: dict[Any, int] = {}
    for index, block in enumerate(blocks):
        kinds.setdefault(_kind(lm, block, index, len(blocks)), index)
    count = max(2, 1 + max(kinds.values()))
    parent, _, child = name.rpartition(".")
    if count < len(blocks):
        setattr(lm.get_submodule(parent), child, nn.ModuleList(list(blocks)[:count]))
    try:
        yield count < len(blocks)
    finally:
        setattr(lm.get_submodule(parent), child, blocks)


def _kind(lm: PreTrainedModel, block: nn.Module, index: int, count: int) -> Any:
    """A key for layers of the same kind: classes and settings of submodules, and per-layer configuration values."""
    parts = [
        (
            type(part).__name__,
            sorted((key, value) for key, value in vars(part).items() if _is_setting(key, value)),
        )
        for part in block.modules()
    ]
    config = lm.config.get_text_config(decoder=True).to_dict()
    listed = [
        (key, repr(value[index]))
        for key, value in config.items()
        if isinstance(value, list) and len(value) == count
    ]
    return repr((parts, listed))


def _is_setting(key: str, value: Any) -> bool:
    numbered = any(word in key for word in ("layer_idx", "layer_id", "layer_number", "block_idx"))
    return isinstance(value, bool | int | float | str) and not key.startswith("_") and not numbered
