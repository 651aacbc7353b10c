"""Tiny random models of every causal language model that transformers knows, made from their configuration classes.

Sizes that a configuration names are shrunk by name, scales and caps are set to values that change the loss.
"""

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

NAMES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

SIZES: dict[int, str] = {
    2: "decoder_layers decoder_num_key_value_heads encoder_layers kv_n_heads linear_num_key_heads mamba_n_groups "
    "moe_k moe_topk multi_query_num_heads n_group n_head_kv n_layer n_layers n_shared_experts num_decoder_layers "
    "num_encoder_layers num_experts_per_tok num_experts_per_token num_hidden_layers num_key_value_heads num_kv_heads "
    "num_layers top_k_experts topk_group",
    4: "conv_kernel d_conv decoder_attention_heads encoder_attention_heads index_n_heads linear_num_value_heads "
    "mamba_n_heads mamba_num_heads moe_num_experts n_head n_heads n_routed_experts num_attention_heads "
    "num_decoder_attention_heads num_encoder_attention_heads num_experts num_heads num_local_experts "
    "num_swa_attention_heads linear_num_heads",
    8: "attention_head_dim d_state global_head_dim head_dim index_head_dim kv_channels kv_lora_rank "
    "linear_key_head_dim linear_value_head_dim mamba_d_head mamba_d_ssm mamba_d_state mamba_dt_rank mamba_head_dim "
    "qk_nope_head_dim qk_rope_head_dim rotary_dim ssm_state_size state_size swa_head_dim swa_v_head_dim "
    "time_step_rank v_head_dim linear_head_dim",
    16: "chunk_size mamba_chunk_size q_lora_rank",
    32: "attention_hidden_size d_embed d_model dim dim_model emb_dim embedding_size hidden_dim hidden_size lru_width "
    "model_dim n_embd n_embed width word_embed_proj_dim",
    48: "decoder_ffn_dim dense_ffn_hidden_size dense_intermediate_size dff dim_ff encoder_ffn_dim "
    "expert_ffn_hidden_size ff_dim ffn_dim ffn_hidden_size intermediate_size intermediate_size_mlp "
    "moe_intermediate_size moe_shared_expert_intermediate_size n_inner prefix_dense_intermediate_size "
    "shared_expert_intermediate_size shared_intermediate_size",
}
"""Names of sizes by the value that a tiny model takes for them."""

BY_NAME = {name: size for size, names in SIZES.items() for name in names.split()}

SCALES = {
    "logits_scaling": 4.0,
    "logit_scale": 0.25,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.5,
    "lm_head_multiplier": 0.3,
    "final_logit_softcapping": 3.0,
    "logits_soft_cap": 3.0,
    "router_aux_loss_coef": 0.5,
}
"""Values at which a scale or a cap of the logits cannot go unnoticed."""

MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_d_ssm": 64}
MORE: dict[str, dict[str, Any]] = {
    "bamba": {**MAMBA, "num_hidden_layers": 3, "attn_layer_indices": [1]},
    "bert": {"is_decoder": True},
    "bert-generation": {"is_decoder": True},
    "big_bird": {"is_decoder": True, "attention_type": "original_full"},
    "camembert": {"is_decoder": True},
    "data2vec-text": {"is_decoder": True},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2, "n_routed_experts": 4},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note_text": {"num_key_value_heads": 4},
    "electra": {"is_decoder": True},
    "ernie": {"is_decoder": True},
    "falcon_h1": MAMBA,
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "intermediate_size": 48,
        "activation_sparsity_pattern": [0.0, 0.0],
    },
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {**MAMBA, "layer_types": ["linear_attention", "full_attention"]},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "jamba": {
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "use_mamba_kernels": False,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "megatron-bert": {"is_decoder": True},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {"layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"], "n_groups": 1},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 4,
    },
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": (16, 16), "axial_pos_shape": (8, 8)},
    "rembert": {"is_decoder": True},
    "roberta": {"is_decoder": True},
    "roberta-prelayernorm": {"is_decoder": True},
    "roc_bert": {"is_decoder": True},
    "roformer": {"is_decoder": True},
    "xlm-roberta": {"is_decoder": True},
    "xlm-roberta-xl": {"is_decoder": True},
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
    "zamba": {
        "num_hidden_layers": 6,
        "layers_block_type": ["linear_attention", "hybrid"] * 3,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "use_mamba_kernels": False,
    },
    "zamba2": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "n_mamba_heads": 4,
        "mamba_headdim": 16,
        "num_query_groups": 4,
        "adapter_rank": 4,
        "kv_channels": 8,
        "use_mamba_kernels": False,
    },
}
"""Settings of single architectures, whose sizes depend on each other."""


def shrunk(config: PretrainedConfig, vocabulary: int) -> dict[str, Any]:
    """The settings of a configuration that make its model tiny."""
    found: dict[str, Any] = {}
    facts = config.to_dict()
    for key, value in facts.items():
        if isinstance(getattr(type(config), key, None), property) or isinstance(value, bool):
            continue
        if key.endswith("token_id") and isinstance(value, int):
            found[key] = min(value, 2)
        elif key.endswith("token_id") and isinstance(value, list):
            found[key] = [min(one, 2) for one in value]
        elif key in ("vocab_size", "vocab_size_per_layer_input"):
            found[key] = vocabulary
        elif key in BY_NAME and isinstance(value, int):
            found[key] = min(value, BY_NAME[key])
        elif key in SCALES:
            found[key] = SCALES[key]
    heads = [facts.get(key) for key in ("num_key_value_heads", "num_attention_heads")]
    if heads[0] is not None and heads[0] == heads[1]:
        found["num_key_value_heads"] = 4  # each head has its own keys
    kinds = facts.get("layer_types")
    if isinstance(kinds, list) and not isinstance(getattr(type(config), "layer_types", None), property):
        each = list(dict.fromkeys(kinds))
        found["layer_types"] = each * (2 if len(each) == 1 else 1)
        found["num_hidden_layers"] = len(found["layer_types"])
    return found


def tiny_config(name: str, vocabulary: int, **more: Any) -> PretrainedConfig:
    """A configuration of that architecture with all its kinds of layers, in little."""
    kind: Any = CONFIG_MAPPING[name]
    plain = kind()
    parts = {
        key: {"model_type": value.model_type, **shrunk(value, vocabulary)}
        for key, value in vars(plain).items()
        if isinstance(value, PretrainedConfig)
    }
    config: PretrainedConfig = kind(**{**shrunk(plain, vocabulary), **parts, **MORE.get(name, {}), **more})
    return config


def tiny_model(name: str, vocabulary: int, **more: Any) -> PreTrainedModel:
    """A model of that architecture with large random weights, which decide its choices."""
    torch.manual_seed(0)
    config = tiny_config(name, vocabulary, **more)
    try:
        lm = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        lm = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for part in lm.parameters():
        if part.dim() > 1 and part.is_floating_point():
            nn.init.normal_(part, std=0.3 if part.shape[-1] < 200 else 0.1)
    lm.generation_config = GenerationConfig()
    made: PreTrainedModel = lm.eval()
    return made
