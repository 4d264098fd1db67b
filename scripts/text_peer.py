#!/usr/bin/env python3
"""Encoding and a training step on the texts of a collection in PyTorch, as its users run it: every batch of a transformer padded to its longest text.

usage: text_peer.py MODEL_FOLDER DATA_FOLDER [--batch 16 --query-len 32 --doc-len 128 --hard-negatives 1 --steps 10 --warmup 3 --device cpu|cuda]
                    [--precision fp32|bf16]

The texts of a step are those of the benchmark `speed` with `--data` (crates/encoder/benches/speed.rs): training pairs by query, then document, in the order of the files. Float32, or bf16
where autocast has it, SDPA attention where the model has it, dropout as the model has it, clipping, AdamW. A static encoder is an EmbeddingBag, as in sentence-transformers. Prints a JSON line for encoding and one for the step. Wants torch and transformers.
"""
import argparse, itertools, json, pathlib, statistics, time
import safetensors.torch, tokenizers, torch
from transformers import AutoModel, AutoTokenizer

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("model")
arguments.add_argument("data", type=pathlib.Path)
for name, value in (("batch", 16), ("query-len", 32), ("doc-len", 128), ("hard-negatives", 1), ("steps", 10), ("warmup", 3)):
    arguments.add_argument("--" + name, type=int, default=value)
arguments.add_argument("--device", default="cpu")
arguments.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
given = arguments.parse_args()
torch.manual_seed(0)

rows = lambda name: [json.loads(line) for line in (given.data / name).read_text(encoding="utf-8").splitlines()]
documents = {row["_id"]: (row["title"] + " " + row["text"]) if row.get("title") else row["text"] for row in rows("corpus.jsonl")}
order = {name: place for place, name in enumerate(documents)}
judged = {}
for line in (given.data / "qrels/train.tsv").read_text(encoding="utf-8").splitlines()[1:]:
    query, document, grade = line.split("\t")
    if int(grade) > 0:
        judged.setdefault(query, []).append(document)
pairs = [(row["text"], documents[name]) for row in rows("queries.jsonl") for name in sorted(judged.get(row["_id"], []), key=order.get)]


class Transformer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(given.model)
        try:
            self.body = AutoModel.from_pretrained(given.model, attn_implementation="sdpa", add_pooling_layer=False)
        except ValueError:
            # MPNet's relative positions have no other in transformers.
            self.body = AutoModel.from_pretrained(given.model, attn_implementation="eager", add_pooling_layer=False)
        except TypeError:
            # Such a layer is not everywhere.
            self.body = AutoModel.from_pretrained(given.model, attn_implementation="sdpa")

        pooling = pathlib.Path(given.model) / "1_Pooling/config.json"
        self.last = pooling.is_file() and json.loads(pooling.read_text(encoding="utf-8")).get("pooling_mode_lasttoken", False)

    def tokens(self, texts, limit):
        # The folders of make-model name no padding token, and these take no types.
        self.tokenizer.pad_token = self.tokenizer.pad_token or "[PAD]"
        types = {} if self.body.config.model_type not in ("modernbert", "qwen3") else {"return_token_type_ids": False}
        return self.tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt", **types).to(given.device)

    def forward(self, **batch):
        with torch.autocast(given.device, torch.bfloat16, enabled=given.precision == "bf16"):
            states = self.body(**batch).last_hidden_state.float()
        mask = batch["attention_mask"].unsqueeze(-1).float()
        if self.last:
            return states[torch.arange(len(states)), batch["attention_mask"].sum(1) - 1]
        return (states * mask).sum(1) / mask.sum(1)


class Static(torch.nn.Module):
    """The mean of word vectors, texts one behind the other."""

    def __init__(self):
        super().__init__()
        folder = pathlib.Path(given.model) / "0_StaticEmbedding"
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        table = safetensors.torch.load_file(folder / "model.safetensors")["embedding.weight"]
        self.bag = torch.nn.EmbeddingBag.from_pretrained(table, freeze=False, mode="mean")

    def tokens(self, texts, limit):
        ids = [encoding.ids[:limit] for encoding in self.tokenizer.encode_batch(texts, add_special_tokens=False)]
        starts = [0, *itertools.accumulate(map(len, ids))][:-1]
        return {"input": torch.tensor(list(itertools.chain(*ids))).to(given.device), "offsets": torch.tensor(starts).to(given.device)}

    def forward(self, **batch):
        return self.bag(**batch)


static = (pathlib.Path(given.model) / "0_StaticEmbedding").is_dir()
model = (Static() if static else Transformer()).to(given.device)
cuda = given.device == "cuda"
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=cuda)


def tokens(step, side, count, limit):
    return model.tokens([pairs[(step * given.batch + row) % len(pairs)][side] for row in range(count)], limit)


def embed(batch):
    return torch.nn.functional.normalize(model(**batch), dim=-1)


def step(batches):
    queries, columns = map(embed, batches)
    loss = torch.nn.functional.cross_entropy(queries @ columns.T * 20, torch.arange(given.batch, device=given.device))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def encode(batches):
    with torch.inference_mode():
        embed(batches[0]).cpu()


def measure(name, prepare, run, count):
    seconds, processor = [], []
    for number in range(given.warmup + given.steps):
        batches = prepare(number)
        begun, used = time.perf_counter(), time.process_time()
        run(batches)
        if cuda:
            torch.cuda.synchronize()
        if number >= given.warmup:
            seconds.append(time.perf_counter() - begun)
            processor.append(time.process_time() - used)
    middle = statistics.median(seconds)
    print(json.dumps({"peer": name, "torch": torch.__version__, "precision": given.precision, "batch": given.batch, "ms": round(middle * 1e3, 1), "rows_per_s": round(count / middle, 2), "processor_ms": round(statistics.mean(processor) * 1e3, 1),
                      "peak_mib": round(torch.cuda.max_memory_allocated() / 2 ** 20) if cuda else None}), flush=True)


model.eval()
measure("encode", lambda number: [tokens(number, 1, given.batch, given.doc_len)], encode, given.batch)
model.train()
both = lambda number: [tokens(number, 0, given.batch, given.query_len), tokens(number, 1, given.batch * (1 + given.hard_negatives), given.doc_len)]
measure("train step", both, step, given.batch)
