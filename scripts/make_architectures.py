#!/usr/bin/env python3
"""Writes tiny random models of every supported family with their expected outputs, for the test `architectures` of crates/encoder.

usage: make_architectures.py FOLDER      then: DREDGE_ARCHITECTURES=FOLDER cargo test --release -p encoder architectures
needs: torch, transformers, tokenizers, safetensors (CPU is enough)

Each subfolder is a plain transformers folder (config.json, model.safetensors, tokenizer.json) plus expected.safetensors:
input_ids and attention_mask [rows, width], last_hidden_state [rows, width, hidden], and the vectors [rows, hidden] that
sentence-transformers takes out of such a folder: the last token's of a causal language model, else the mean.
Everything is float32 on the CPU and seeded. Weights are larger than a fresh initialisation, so that details show.
"""
import os
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (BertConfig, BertModel, CamembertConfig, CamembertModel, DistilBertConfig, DistilBertModel, LlamaConfig, LlamaModel,
                          MistralConfig, MistralModel, ModernBertConfig, ModernBertForMaskedLM, ModernBertModel, MPNetConfig, MPNetModel,
                          Qwen2Config, Qwen2Model, Qwen3Config, Qwen3ForCausalLM, Qwen3Model, RobertaConfig, RobertaModel, XLMRobertaConfig,
                          XLMRobertaModel)

VOCABULARY, HIDDEN, LAYERS, HEADS, INNER, POSITIONS = 50, 32, 2, 4, 64, 160
USUAL = dict(vocab_size=VOCABULARY, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=INNER,
             max_position_embeddings=POSITIONS)
MODERN = dict(**{**USUAL, "num_hidden_layers": 5}, pad_token_id=0, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2)
DECODER = dict(**{**USUAL, "num_hidden_layers": 3}, hidden_act="silu")
# Folder, configuration, model, keyword arguments of the model, padding id.
MODELS = [
    ("bert-relu", BertConfig(**USUAL, hidden_act="relu", pad_token_id=0), BertModel, {"add_pooling_layer": True}, 0),
    ("bert-gelu-new", BertConfig(**USUAL, hidden_act="gelu_new", pad_token_id=3, layer_norm_eps=1e-5), BertModel, {"add_pooling_layer": False}, 3),
    ("camembert", CamembertConfig(**USUAL, pad_token_id=1, type_vocab_size=1, layer_norm_eps=1e-5), CamembertModel, {"add_pooling_layer": False}, 1),
    ("distilbert", DistilBertConfig(vocab_size=VOCABULARY, dim=HIDDEN, n_layers=LAYERS, n_heads=HEADS, hidden_dim=INNER,
                                    max_position_embeddings=POSITIONS, pad_token_id=0), DistilBertModel, {}, 0),
    ("llama", LlamaConfig(**DECODER, rms_norm_eps=1e-5), LlamaModel, {}, 0),
    ("mistral", MistralConfig(**DECODER, num_key_value_heads=1, sliding_window=None), MistralModel, {}, 0),
    ("mistral-near", MistralConfig(**DECODER, num_key_value_heads=2, sliding_window=20), MistralModel, {}, 0),
    ("qwen2-near", Qwen2Config(**DECODER, num_key_value_heads=2, use_sliding_window=True, sliding_window=30, max_window_layers=1), Qwen2Model, {}, 0),
    ("qwen2", Qwen2Config(**DECODER, num_key_value_heads=2, rope_parameters={"rope_type": "default", "rope_theta": 700.0}), Qwen2Model, {}, 0),
    # Heads that are wider together than the states, and the names that a language model has.
    ("qwen3", Qwen3Config(**DECODER, num_key_value_heads=2, head_dim=12), Qwen3Model, {}, 0),
    ("qwen3-causal", Qwen3Config(**DECODER, num_key_value_heads=4, head_dim=8, tie_word_embeddings=False), Qwen3ForCausalLM, {}, 0),
    ("modernbert", ModernBertConfig(**MODERN), ModernBertModel, {}, 0),
    # A window that most texts are longer than, kinds of layers in no order, bases of its own, and the names that a masked-language model has.
    ("modernbert-near", ModernBertConfig(**MODERN, local_attention=20, layer_types=["sliding_attention", "full_attention"] * 2 + ["sliding_attention"],
                                        rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 500.0},
                                                         "sliding_attention": {"rope_type": "default", "rope_theta": 50.0}}),
     ModernBertForMaskedLM, {}, 0),
    ("mpnet", MPNetConfig(**USUAL, pad_token_id=1), MPNetModel, {"add_pooling_layer": True}, 1),
    ("roberta", RobertaConfig(**USUAL, pad_token_id=1, type_vocab_size=1, layer_norm_eps=1e-5), RobertaModel, {"add_pooling_layer": True}, 1),
    ("xlm-roberta", XLMRobertaConfig(**USUAL, pad_token_id=1, type_vocab_size=1), XLMRobertaModel, {"add_pooling_layer": False}, 1),
]
# Long enough that relative positions reach the last logarithmic bucket.
LENGTHS = [150, 1, 2, 17, 64]


def write(folder, config, model_class, arguments, pad):
    torch.manual_seed(7)
    model = model_class(config, **arguments).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.mul_(5.0)
            elif name.endswith("bias"):
                parameter.uniform_(-0.1, 0.1)
            else:
                parameter.uniform_(0.7, 1.3)
    model.save_pretrained(folder)
    words = {f"w{i}": i for i in range(VOCABULARY) if i != pad}
    words["[PAD]"] = pad
    tokenizer = Tokenizer(WordLevel(words, unk_token="w2"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.enable_padding(pad_id=pad, pad_token="[PAD]")
    tokenizer.save(f"{folder}/tokenizer.json")

    width = max(LENGTHS)
    mask = torch.tensor([[1] * n + [0] * (width - n) for n in LENGTHS])
    ids = torch.where(mask == 1, torch.randint(5, VOCABULARY, mask.shape), torch.full_like(mask, pad))
    with torch.no_grad():
        states = getattr(model, model.base_model_prefix, model)(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1).float()
    vectors = (states * weights).sum(1) / weights.sum(1)
    if model_class.__name__.endswith("ForCausalLM"):
        vectors = states[torch.arange(len(LENGTHS)), torch.tensor(LENGTHS) - 1]
    save_file({"input_ids": ids, "attention_mask": mask, "last_hidden_state": states.contiguous(),
               "vectors": vectors.contiguous()}, f"{folder}/expected.safetensors")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    torch.set_num_threads(2)
    for name, *rest in MODELS:
        folder = os.path.join(sys.argv[1], name)
        os.makedirs(folder, exist_ok=True)
        write(folder, *rest)
        print(name)


if __name__ == "__main__":
    main()
