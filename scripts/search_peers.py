#!/usr/bin/env python3
"""Measures our search, faiss and PyTorch in turn, shape by shape, round by round, and writes a Markdown table. See scripts/bench-search, which calls it.

Ours runs as one process that is asked over a pipe and leaves its numbers in files, which the peers load: all search the same. The machine may have other work, so
what is reported are medians over rounds of ratios within a round, by the clock and by processor time, and not absolute times.
"""
import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time

MARK = ("<!-- search: begin, written by scripts/bench-search -->", "<!-- search: end -->")
CATALOGUE_MARK = ("<!-- search catalogue: begin, written by scripts/bench-search --catalogue -->", "<!-- search catalogue: end -->")
SHAPES = [(1, 1), (1, 10), (1, 100), (1, 1000), (64, 1), (64, 10), (64, 100), (64, 1000), (1024, 1), (1024, 10), (1024, 100), (1024, 1000)]

# What a GPU is for.
GPU_SHAPES = [(4096, 100)]
# Of the catalogue: one side of the middle problem is changed at a time.
ROWS, DIMENSIONS = (10_000, 100_000, 1_000_000, 10_000_000), (128, 384, 768, 1024)
QUERIES, DEPTHS = (1, 16, 256, 1024, 4096, 16_384), (1, 10, 100, 1024)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--device", default="cpu", choices=("cpu", "gpu", "software"))
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=420, help="no round begins after so many seconds")
    parser.add_argument("--half", action="store_true", help="rows and queries of 16 bits, ours and those of PyTorch with CUDA")
    parser.add_argument("--catalogue", action="store_true", help="ours alone over many shapes instead; shapes above --gigabytes or --teraflop are left out")
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--teraflop", type=float, default=2)
    parser.add_argument("--vectors", help="a folder with rows.f32 and queries.f32 of the same width (little-endian, row by row), to measure 8-bit rows on as well")
    parser.add_argument("--output", default="docs/performance.md")
    return parser.parse_args()


def shapes(options):
    """Queries and depth of every problem that is measured."""
    if options.catalogue:
        return [(queries, 100) for queries in QUERIES]
    return SHAPES + (GPU_SHAPES if options.device == "gpu" else [])


class Ours:
    """The benchmark, asked over a pipe."""

    def __init__(self, options, folder=None, vectors=None):
        command = [options.binary, "--device", options.device, "--rows", options.rows, "--dimension", options.dimension]
        command += ["--queries", max(q for q, _ in shapes(options))] + (["--dump", folder] if folder else []) + (["--vectors", vectors] if vectors else [])
        command += ["--half"] if options.half else []
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, queries, k, choice="best"):
        self.process.stdin.write(f"{queries},{k},{choice}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the benchmark ended early; what it said is above")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def timed(work, finish):
    """Median seconds by the clock and mean processor seconds, over as many runs as the benchmark makes."""
    work()
    finish()
    begun, used, seconds = time.perf_counter(), time.process_time(), []
    while len(seconds) < 3 or (time.perf_counter() - begun < 0.4 and len(seconds) < 200):
        start = time.perf_counter()
        answer = work()
        finish()
        seconds.append(time.perf_counter() - start)
    return answer, statistics.median(seconds), (time.process_time() - used) / len(seconds)


def peers(options, folder):
    """Name -> (search(queries, k) -> ids, finish), for what is installed."""
    found = {}
    try:
        import numpy
    except ImportError:
        return found
    rows = numpy.fromfile(os.path.join(folder, "rows.f32"), dtype=numpy.float32).reshape(-1, options.dimension)
    queries = numpy.fromfile(os.path.join(folder, "queries.f32"), dtype=numpy.float32).reshape(-1, options.dimension)
    try:
        import faiss

        # As many threads as ours has.
        faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
        index = faiss.IndexFlatIP(options.dimension)
        index.add(rows)
        found[f"faiss-cpu {faiss.__version__}"] = (lambda count, k: index.search(queries[:count], k)[1], lambda: None)
    except ImportError:
        pass
    try:
        import torch
    except ImportError:
        return found
    cuda = options.device == "gpu" and torch.cuda.is_available()
    half = options.half and cuda
    store, asked = [torch.from_numpy(values).to("cuda" if cuda else "cpu", torch.float16 if half else torch.float32) for values in (rows, queries)]

    def search(count, k, chunk=262_144):
        best = None
        for begin in range(0, len(store), chunk):
            part = store[begin:begin + chunk]
            scores, ids = torch.topk(asked[:count] @ part.T, min(k, len(part)), dim=1)
            ids += begin
            if best is not None:
                scores, ids = torch.cat([best[0], scores], 1), torch.cat([best[1], ids], 1)
                scores, order = torch.topk(scores, min(k, scores.shape[1]), dim=1)
                ids = ids.gather(1, order)
            best = (scores, ids)
        return best[1].cpu().numpy()

    found[f"PyTorch {torch.__version__}" + (" (CUDA, fp16)" if half else " (CUDA)" if cuda else "")] = (search, torch.cuda.synchronize if cuda else lambda: None)
    return found


def shared(folder, ids):
    """How many of our ids a peer found as well; equal scores and rounding make it a little less than 1 at most."""
    import numpy

    ours = numpy.fromfile(os.path.join(folder, "ids.u32"), dtype=numpy.uint32).reshape(ids.shape)
    return float(numpy.mean([len(set(a.tolist()) & set(b.tolist())) / len(b) for a, b in zip(ours, ids)]))


def measure(options, folder):
    """Shape -> list over rounds of {name: (seconds, processor seconds, more)}."""
    begun, ours = time.monotonic(), Ours(options, folder)
    ours.ask(1, 1)
    others = peers(options, folder)
    rounds = {shape: [] for shape in shapes(options)}
    for number in range(options.rounds):
        for shape in rounds:
            if number > 0 and time.monotonic() - begun > options.seconds:
                break
            own = ours.ask(*shape)
            line = {"ours": (own["seconds"], own["processor_seconds"], own)}
            for name, (search, finish) in others.items():
                ids, seconds, processor = timed(lambda: search(*shape), finish)
                line[name] = (seconds, processor, shared(folder, ids) if number == 0 else None)
            rounds[shape].append(line)
            text = ", ".join(f"{name} {values[0] * 1e3:.1f} ms ({values[1] * 1e3:.1f})" for name, values in line.items())
            print(f"round {number + 1}, {shape[0]} queries, k = {shape[1]}: {text}", flush=True)
    draws = {(count, k, choice): [ours.ask(count, k, choice) for _ in range(3)] for count, k, choice in [
        (1024, 100, "best"), (1024, 100, "uniform"), (1024, 100, "near"), (1024, 100, "counted")]}
    files = stores(options, ours)
    ours.close()
    return rounds, draws, list(others), files


def stores(options, ours):
    """What files of rows cost, and what 8-bit rows find; (text, queries, k, measured), of generated rows and of given ones."""
    forms = [("best", "32-bit, in memory"), ("disk-f32", "32-bit, in a file"), ("disk-f16", "16-bit, in a file"), ("disk-i8", "8-bit, in a file")]
    forms += [(f"i8-{factor}", f"8-bit, in a file, the best {factor} k scored again") for factor in (1, 2, 4)]
    generated = [(text, count, 100, ours.ask(count, 100, form)) for count in (1024, 1) for form, text in forms if count > 1 or "i8" not in form]
    if not options.vectors:
        return generated, []
    ours = Ours(options, vectors=options.vectors)
    count = min(1024, os.path.getsize(os.path.join(options.vectors, "queries.f32")) // 4 // options.dimension)
    given = [(text, count, k, ours.ask(count, k, form)) for k in (10, 100) for form, text in forms if "i8" in form]
    ours.close()
    return generated, given


def files_section(generated, given):
    lines = ["", "Rows in a file, k = 100. It lies in the folder of temporary files and has been read before, so it comes from the system's cache where memory allows: this",
             "is what reading and decoding cost, not what a disk gives. Waiting is the share of the time in which the searching thread waited for rows; same ids is the",
             "share that 32-bit rows in memory give too. Compare processor times where the machine has other work.", "",
             "| rows | queries | ms | processor, ms | rows a second | waiting | same ids |", "|---|---|---|---|---|---|---|"]
    for text, count, _, line in generated:
        cells = [text, f"{count:,}", f"{line['seconds'] * 1e3:.0f}", f"{line['processor_seconds'] * 1e3:.0f}"]
        more = [f"{line['disk_rows_per_second']:,.0f}", f"{100 * line['disk_waited_share']:.0f} %", f"{line['recall']:.4f}"] if "recall" in line else [""] * 3
        lines.append("| " + " | ".join(cells + more) + " |")
    if given:
        line = given[0][3]
        lines += ["", f"Of {line['rows']:,} given rows of width {line['dimension']} and {given[0][1]:,} queries:", "", "| rows | k | same ids |", "|---|---|---|"]
        lines += [f"| {text} | {k} | {line['recall']:.4f} |" for text, _, k, line in given]
    return lines


def machine():
    name = platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {threads} threads"


def section(options, rounds, draws, others, files):
    median = statistics.median
    lines = [
        MARK[0],
        "## Search",
        "",
        f"Exact top-k, {'float16, sums in float32' if options.half else 'float32'}, {options.rows:,} rows of width {options.dimension}, device `{options.device}`; {machine()}; {datetime.date.today()}; "
        f"`scripts/bench-search --device {options.device} --rows {options.rows} --dimension {options.dimension}{' --half' if options.half else ''}`.",
        "All search the same numbers, in turn; the machine may have had other work, so milliseconds are medians over "
        f"{min(map(len, rounds.values()))} rounds and",
        "ratios are medians of the ratios within a round: the peer's time over ours, above 1 ours is faster. Processor time counts all threads (not the GPU's). The",
        "product is the bare matrix product of the same queries with 8,192 rows through the same tensor library, measured in the same round; GB/s is the least",
        "there is to move (rows and queries read once, answer written), beside a copy with all threads, read and written bytes counted. OpenBLAS, which faiss",
        f"uses, was told the processor's instructions (`OPENBLAS_CORETYPE={os.environ.get('OPENBLAS_CORETYPE', '')}`): the one in the wheel does not know newer processors.",
        "",
    ]
    head = ["queries", "k", "ours, ms", "processor, ms", "GFLOP/s", "x bare product", "GB/s", "x copy"]
    for name in others:
        head += [f"{name}: ratio, clock", "processor", "same ids"]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for (count, k), measured in rounds.items():
        own = [line["ours"] for line in measured]
        more = lambda key: median(values[2][key] for values in own)
        cells = [count, k, f"{median(v[0] for v in own) * 1e3:.1f}", f"{median(v[1] for v in own) * 1e3:.1f}"]
        cells += [f"{more('gflops'):.0f}", f"{more('product_share'):.2f}", f"{more('gigabytes_per_second'):.1f}",
                  f"{more('bandwidth_share'):.2f}"]
        for name in others:
            ratio = lambda place: median(line[name][place] / line["ours"][place] for line in measured if line["ours"][place] > 0)
            cells += [f"{ratio(0):.2f}", f"{ratio(1):.2f}", f"{measured[0][name][2]:.4f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "What the other requests cost, beside the best 100 for 1,024 queries (processor time, median of three):", ""]
    base = median(line["processor_seconds"] for line in draws[(1024, 100, "best")])
    words = {"best": "the best", "uniform": "a uniform draw", "near": "a draw near a score (SimANS)", "counted": "the best, and a histogram of 100 bins"}
    lines += ["| asked for | processor, ms | times |", "|---|---|---|"]
    for (_, _, choice), measured in draws.items():
        used = median(line["processor_seconds"] for line in measured)
        lines.append(f"| {words[choice]} | {used * 1e3:.0f} | {used / base:.2f} |")
    return lines + files_section(*files) + [MARK[1]]


def catalogue(options):
    """One row a shape: time, and shares of what the device could do."""
    middle = (1_000_000 if options.device == "gpu" else 100_000, 384, 1024, 100)
    problems = [middle] + [(rows, *middle[1:]) for rows in ROWS] + [(middle[0], width, *middle[2:]) for width in DIMENSIONS]
    problems += [(*middle[:2], queries, 100) for queries in QUERIES] + [(*middle[:3], k) for k in DEPTHS]
    lines, left_out, begun = [], [], time.monotonic()
    for rows, dimension in dict.fromkeys(problem[:2] for problem in problems):
        asked = [problem[2:] for problem in dict.fromkeys(problems) if problem[:2] == (rows, dimension)]
        size = 2 if options.half else 4
        fits = [(queries, k) for queries, k in asked
                if rows * dimension * size <= options.gigabytes * 1e9 and 2 * rows * dimension * queries <= options.teraflop * 1e12]
        left_out += [(rows, dimension, *ask) for ask in asked if ask not in fits]
        if not fits or time.monotonic() - begun > options.seconds:
            left_out += [(rows, dimension, *ask) for ask in fits]
            continue
        ours = Ours(argparse.Namespace(**{**vars(options), "rows": rows, "dimension": dimension}))
        for queries, k in fits:
            found = ours.ask(queries, k)
            lines.append((rows, dimension, queries, k, found))
            print(f"{rows:,} x {dimension}, {queries} queries, k = {k}: {found['seconds'] * 1e3:.1f} ms", flush=True)
        ours.close()
    text = [CATALOGUE_MARK[0], "## Search, shape by shape", "",
            f"Ours alone; device `{options.device}`; {'16-bit operands' if options.half else 'float32'}; {machine()}; {datetime.date.today()}; `scripts/bench-search --catalogue --device "
            f"{options.device}{' --half' if options.half else ''}`. Medians of three or more runs.",
            "The bare product and the copy are measured for every shape; the least to move is every row and query read once and the answer written.", "",
            "| rows | width | queries | k | ms | processor, ms | GFLOP/s | x bare product | least to move, MB | GB/s of it | x copy |", "|---|---|---|---|---|---|---|---|---|---|---|"]
    for rows, dimension, queries, k, found in sorted(lines, key=lambda line: line[:4]):
        cells = [f"{rows:,}", dimension, f"{queries:,}", f"{k:,}", f"{found['seconds'] * 1e3:.1f}", f"{found['processor_seconds'] * 1e3:.1f}", f"{found['gflops']:.0f}",
                 f"{found['product_share']:.2f}", f"{found['least_bytes'] / 1e6:.0f}", f"{found['gigabytes_per_second']:.1f}", f"{found['bandwidth_share']:.2f}"]
        text.append("| " + " | ".join(map(str, cells)) + " |")
    if left_out:
        text += ["", "Left out for their size: " + "; ".join(f"{rows:,} x {dimension}, {queries:,} queries, k = {k:,}" for rows, dimension, queries, k in left_out) + "."]
    return text + [CATALOGUE_MARK[1]]


def write(path, lines, mark=MARK):
    """Puts the section in the place of the last one, or at the end."""
    text = open(path).read() if os.path.exists(path) else "# Performance\n"
    new = "\n".join(lines)
    if mark[0] in text:
        before, rest = text.split(mark[0], 1)
        text = before + new + rest.split(mark[1], 1)[1]
    else:
        text = text.rstrip("\n") + "\n\n" + new + "\n"
    with open(path + ".new", "w") as file:
        file.write(text)
    os.replace(path + ".new", path)
    print(new)


def main():
    options = arguments()
    if options.catalogue:
        return write(options.output, catalogue(options), CATALOGUE_MARK)
    with tempfile.TemporaryDirectory(prefix="dredge-search-") as folder:
        write(options.output, section(options, *measure(options, folder)))


if __name__ == "__main__":
    main()
