#!/usr/bin/env python3
"""Writes tiny random rerankers of every supported family with the scores of sentence-transformers, for the test `cross_encoders` of
crates/encoder.

usage: make_cross_encoder_golden.py FOLDER
       make_cross_encoder_golden.py --formula FILE     scores of one BERT whose weights are a formula that the test computes too, so that it runs
                                                       everywhere: FILE is crates/encoder/tests/encoder/cross_encoder_formula.json
then:  DREDGE_CROSS_ENCODERS=FOLDER cargo test --release -p encoder cross_encoders
check: make_cross_encoder_golden.py --open FOLDER      after that test: opens what it saved under each model's `saved` with
       sentence-transformers and with transformers and compares the scores.
needs: torch, transformers, sentence-transformers, tokenizers (CPU is enough)

Each subfolder is a transformers folder (config.json, model.safetensors, tokenizer.json with its pair template) plus golden.json:
max_length, and for each pair of texts its token ids, its token types (none where the model is not given any) and its logit, as
sentence_transformers.CrossEncoder gives it with the activation off. Everything is float32 on the CPU and seeded. Weights are larger
than a fresh initialisation, so that details show. The last pairs are longer than max_length, on either or on both sides.
"""
import json
import os
import random
import sys
import tempfile

import torch
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import RobertaProcessing, TemplateProcessing
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification, CamembertConfig,
                          CamembertForSequenceClassification, DistilBertConfig, DistilBertForSequenceClassification, ModernBertConfig,
                          ModernBertForSequenceClassification, MPNetConfig, MPNetForSequenceClassification, PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification,
                          XLMRobertaConfig, XLMRobertaForSequenceClassification)

WORDS, HIDDEN, LAYERS, HEADS, INNER, POSITIONS, MAX_LENGTH = 40, 32, 2, 4, 64, 48, 32
SPECIAL = {"bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "roberta": ["<s>", "<pad>", "</s>", "<unk>"]}
USUAL = dict(vocab_size=4 + WORDS, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=INNER,
             max_position_embeddings=POSITIONS, num_labels=1)
# Folder, kind of tokenizer, inputs of the model, configuration, model.
TYPED, UNTYPED = ["input_ids", "token_type_ids", "attention_mask"], ["input_ids", "attention_mask"]
MODELS = [
    ("bert", "bert", TYPED, BertConfig(**USUAL), BertForSequenceClassification),
    ("bert-untyped", "bert", UNTYPED, BertConfig(**USUAL, hidden_act="gelu_new", classifier_dropout=0.3), BertForSequenceClassification),
    ("camembert", "roberta", UNTYPED, CamembertConfig(**USUAL, pad_token_id=1, type_vocab_size=1), CamembertForSequenceClassification),
    ("distilbert", "bert", UNTYPED, DistilBertConfig(vocab_size=4 + WORDS, dim=HIDDEN, n_layers=LAYERS, n_heads=HEADS, hidden_dim=INNER,
                                                     max_position_embeddings=POSITIONS, num_labels=1), DistilBertForSequenceClassification),
    *((f"modernbert-{pooling}", "bert", UNTYPED,
       ModernBertConfig(**{**USUAL, "num_hidden_layers": 4}, local_attention=10, classifier_pooling=pooling, pad_token_id=0, cls_token_id=2, sep_token_id=3,
                        bos_token_id=2, eos_token_id=3), ModernBertForSequenceClassification) for pooling in ("cls", "mean")),
    ("mpnet", "roberta", UNTYPED, MPNetConfig(**USUAL, pad_token_id=1), MPNetForSequenceClassification),
    ("roberta", "roberta", UNTYPED, RobertaConfig(**USUAL, pad_token_id=1, type_vocab_size=1), RobertaForSequenceClassification),
    ("xlm-roberta", "roberta", UNTYPED, XLMRobertaConfig(**USUAL, pad_token_id=1, type_vocab_size=1), XLMRobertaForSequenceClassification),
]


def tokenizer(kind, inputs):
    words = SPECIAL[kind] + [f"w{i}" for i in range(WORDS)]
    vocabulary = {word: index for index, word in enumerate(words)}
    unknown = words[1] if kind == "bert" else words[3]
    made = Tokenizer(WordLevel(vocabulary, unk_token=unknown))
    made.normalizer, made.pre_tokenizer = Lowercase(), Whitespace()
    if kind == "bert":
        made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
                                                 special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
        names = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")
    else:
        made.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False, add_prefix_space=False)
        names = dict(pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>", bos_token="<s>", eos_token="</s>")
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=MAX_LENGTH, model_input_names=inputs, **names)


def pairs():
    draw = random.Random(7)
    text = lambda count: " ".join(f"W{draw.randrange(WORDS + 2)}" for _ in range(count))
    lengths = [(3, 9), (1, 1), (0, 4), (4, 0), (0, 0), (12, 14), (8, 60), (60, 8), (40, 41), (41, 40), (13, 17), (14, 16), (29, 1), (1, 29)]
    return [(text(query), text(document)) for query, document in lengths]


def write(folder, kind, inputs, config, model_class):
    torch.manual_seed(7)
    model = model_class(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.mul_(5.0)
            elif name.endswith("bias"):
                parameter.uniform_(-0.1, 0.1)
            else:
                parameter.uniform_(0.7, 1.3)
    model.save_pretrained(folder)
    tokenizer(kind, inputs).save_pretrained(folder)
    with open(f"{folder}/golden.json", "w") as file:
        json.dump({"max_length": MAX_LENGTH, "pairs": scored(folder)}, file, indent=1)


def scored(folder):
    reranker = CrossEncoder(folder, device="cpu")
    rows = []
    for query, document in pairs():
        batch = reranker.tokenizer([(query, document)], truncation="longest_first", max_length=MAX_LENGTH)
        encoded = {key: value[0] for key, value in batch.items()}
        score = float(reranker.predict([(query, document)], activation_fn=torch.nn.Identity())[0])
        rows.append({"query": query, "document": document, "ids": encoded["input_ids"], "types": encoded.get("token_type_ids"),
                     "score": score})
    return rows


def formula(name, count):
    """`count` numbers in [-1, 1) that every language computes to the same bits: SplitMix64 from the FNV-1a hash of the name, its upper 16 bits."""
    mask, state, numbers = (1 << 64) - 1, 0xCBF29CE484222325, []
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & mask
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
        numbers.append((((mixed ^ (mixed >> 31)) >> 48) - 32768) / 32768)
    return numbers


def write_formula(file):
    with tempfile.TemporaryDirectory() as folder:
        model = BertForSequenceClassification(BertConfig(**USUAL)).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                values = torch.tensor(formula(name, parameter.numel()), dtype=torch.float32).reshape(parameter.shape)
                # Matrices up to 1/4, biases up to 1/8, scales of norms about 1.
                one = name.endswith("LayerNorm.weight")
                parameter.copy_(values * (0.25 if parameter.dim() == 2 or one else 0.125) + (1.0 if one else 0.0))
        model.save_pretrained(folder)
        tokenizer("bert", TYPED).save_pretrained(folder)
        rows = scored(folder)
    with open(file, "w") as out:
        json.dump({"made_by": "scripts/make_cross_encoder_golden.py --formula", "max_length": MAX_LENGTH, "pairs": rows}, out, indent=1)
        out.write("\n")


def reopen(root):
    for name in sorted(os.listdir(root)):
        folder, golden = os.path.join(root, name, "saved"), json.load(open(os.path.join(root, name, "golden.json")))
        texts = [(row["query"], row["document"]) for row in golden["pairs"]]
        expected = torch.tensor([row["score"] for row in golden["pairs"]])
        ours = torch.tensor(CrossEncoder(folder, device="cpu").predict(texts, activation_fn=torch.nn.Identity()))
        split = AutoTokenizer.from_pretrained(folder)
        batch = split(texts, truncation="longest_first", padding=True, return_tensors="pt")
        with torch.no_grad():
            plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()(**batch).logits[:, 0]
        print(f"{name}: sentence-transformers {(ours - expected).abs().max():.1e}, transformers {(plain - expected).abs().max():.1e}")


def main():
    torch.set_num_threads(2)
    if len(sys.argv) == 3 and sys.argv[1] == "--open":
        return reopen(sys.argv[2])
    if len(sys.argv) == 3 and sys.argv[1] == "--formula":
        return write_formula(sys.argv[2])
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for name, *rest in MODELS:
        folder = os.path.join(sys.argv[1], name)
        os.makedirs(folder, exist_ok=True)
        write(folder, *rest)
        print(name)


if __name__ == "__main__":
    main()
