#!/usr/bin/env python3
"""Measures our search, faiss and PyTorch in turn, shape by shape, round by round, and writes a Markdown table. See scripts/bench-search, which calls it.

Ours runs as one process that is asked over a pipe and leaves its numbers in files, which the peers load: all search the same. The machine may have other work, so
what is reported are medians over rounds of ratios within a round, by the clock and by processor time, and not absolute times. The section is written anew after
every measurement, so that --seconds, or whoever ends this, ends it with all that was measured.
"""
import argparse
import datetime
import importlib.util
import json
import os
import platform
import signal
import statistics
import subprocess
import tempfile
import time

MARK = ("<!-- search: begin, written by scripts/bench-search -->", "<!-- search: end -->")
CATALOGUE_MARK = ("<!-- search catalogue: begin, written by scripts/bench-search --catalogue -->", "<!-- search catalogue: end -->")
SHAPES = [(1, 1), (1, 10), (1, 100), (1, 1000), (64, 1), (64, 10), (64, 100), (64, 1000), (1024, 1), (1024, 10), (1024, 100), (1024, 1000)]
# What a GPU is for, in the order of what is worth knowing.
GPU_SHAPES = [(4096, 100), (1024, 100), (1, 100), (4096, 1000), (64, 100), (1024, 10), (1024, 1000), (1, 1), (1, 1000)]
DRAWS = {"best": "the best", "uniform": "a uniform draw", "near": "a draw near a score (SimANS)", "counted": "the best, and a histogram of 100 bins"}
# Rows in a file: what is asked, how many queries.
FORMS = {"best": "32-bit, in memory", "disk-f32": "32-bit, in a file", "disk-f16": "16-bit, in a file", "disk-i8": "8-bit, in a file",
         **{f"i8-{factor}": f"8-bit, in a file, the best {factor} k scored again" for factor in (1, 2, 4)}}
FILES = [(form, queries) for queries in (1024, 1) for form in FORMS if queries > 1 or "i8" not in form]
# Of the catalogue, in the order of what is worth knowing: one side of the middle problem is changed at a time.
ROWS, DIMENSIONS = (1_000_000, 10_000_000, 100_000, 10_000), (384, 768, 1024, 128)
QUERIES, DEPTHS = (4096, 1024, 16_384, 256, 16, 1), (100, 10, 1024, 1)


class Stopped(Exception):
    """The seconds are over, or somebody wants this to end."""


def stop(*_):
    # Once: what was measured is yet to be written.
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--device", default="cpu", choices=("cpu", "gpu", "software"))
    parser.add_argument("--rows", type=int, help="200,000; of the catalogue's middle 100,000, on a GPU 1,000,000")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, help="of the shapes only those of so many queries, and neither draws nor rows in files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=420, help="ends after so many, with what was measured by then")
    parser.add_argument("--half", action="store_true", help="rows and queries of 16 bits, ours and those of PyTorch with CUDA")
    parser.add_argument("--catalogue", action="store_true", help="ours alone over many shapes instead; shapes above --gigabytes or --teraflop are left out")
    parser.add_argument("--gigabytes", type=float, help="of rows; 32 on a GPU, else 4")
    parser.add_argument("--teraflop", type=float, help="20 on a GPU, else 2")
    parser.add_argument("--vectors", help="a folder with rows.f32 and queries.f32 of the same width (little-endian, row by row), to measure 8-bit rows on as well")
    parser.add_argument("--output", default="docs/performance.md")
    options = parser.parse_args()
    gpu = options.device == "gpu"
    options.rows = options.rows or (200_000 if not options.catalogue else 1_000_000 if gpu else 100_000)
    options.gigabytes, options.teraflop = options.gigabytes or (32 if gpu else 4), options.teraflop or (20 if gpu else 2)
    return options


def shapes(options):
    """Queries and depth of every problem that is measured."""
    if options.catalogue:
        return [(queries, 100) for queries in QUERIES]
    wanted = [shape for shape in (GPU_SHAPES if options.device == "gpu" else SHAPES) if shape[1] <= options.rows and options.queries in (None, shape[0])]
    if not wanted:
        raise SystemExit(f"no shape has {options.queries} queries; the shapes (queries, k) are {GPU_SHAPES if options.device == 'gpu' else SHAPES}")
    return wanted


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

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        if error:
            self.process.kill()
        self.process.communicate()


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


def comparable():
    """Whether a peer can be there, and what it searches need be left for it."""
    there = importlib.util.find_spec
    return bool(there("numpy") and (there("faiss") or there("torch")))


def peers(options, folder):
    """Name -> (search(queries, k) -> ids, finish), for what is installed. On a GPU without faiss, which searches on the CPU."""
    found = {}
    try:
        import numpy
    except ImportError:
        return found
    rows = numpy.fromfile(os.path.join(folder, "rows.f32"), dtype=numpy.float32).reshape(-1, options.dimension)
    queries = numpy.fromfile(os.path.join(folder, "queries.f32"), dtype=numpy.float32).reshape(-1, options.dimension)
    try:
        if options.device == "gpu":
            raise ImportError
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


class Found:
    """What was measured so far."""

    def __init__(self, options):
        self.rounds = {shape: [] for shape in shapes(options)}  # shape -> list over rounds of {name: (seconds, processor seconds, more)}
        self.others, self.draws, self.files, self.given = [], {}, [], []


def measure(options, folder, found, save):
    """Measures what is worth most first."""
    with Ours(options, folder) as ours:
        ours.ask(1, 1)
        others = peers(options, folder) if folder else {}
        found.others = list(others)

        def a_round(number):
            for shape in found.rounds:
                own = ours.ask(*shape)
                line = {"ours": (own["seconds"], own["processor_seconds"], own)}
                for name, (search, finish) in others.items():
                    ids, seconds, processor = timed(lambda: search(*shape), finish)
                    line[name] = (seconds, processor, shared(folder, ids) if number == 0 else None)
                found.rounds[shape].append(line)
                text = ", ".join(f"{name} {values[0] * 1e3:.1f} ms ({values[1] * 1e3:.1f})" for name, values in line.items())
                print(f"round {number + 1}, {shape[0]} queries, k = {shape[1]}: {text}", flush=True)
                save()

        def some_files(asked):
            for form, queries in asked:
                found.files.append((FORMS[form], queries, 100, ours.ask(queries, 100, form)))
                save()

        a_round(0)
        # Every file of a GPU's million rows takes seconds to write.
        files, draws = ([], []) if options.queries else (FILES, DRAWS)
        first = [("disk-f16", 1024)] if files and options.device == "gpu" else files
        some_files(first)
        for choice in draws:
            found.draws[choice] = [ours.ask(1024, 100, choice) for _ in range(3)]
            save()
        for number in range(1, options.rounds):
            a_round(number)
        some_files(ask for ask in files if ask not in first)
    if options.vectors:
        given_rows(options, found, save)


def given_rows(options, found, save):
    """What 8-bit rows find of given ones."""
    queries = min(1024, os.path.getsize(os.path.join(options.vectors, "queries.f32")) // 4 // options.dimension)
    with Ours(options, vectors=options.vectors) as ours:
        for k in (10, 100):
            for form in (form for form in FORMS if "i8" in form):
                found.given.append((FORMS[form], queries, k, ours.ask(queries, k, form)))
                save()


def files_section(files, given):
    lines = []
    if files:
        lines += ["", "Rows in a file, k = 100. It lies in the folder of temporary files and has been read before, so it comes from the system's cache where memory allows: this",
                  "is what reading and decoding cost, not what a disk gives. GB/s are of the file, also beside those of reading it alone, and of uploading 32-bit numbers alone (rows that",
                  "are widened on the way upload more than the file has). Waiting is the share of the time in which the searching thread waited for rows; same ids is the",
                  "share that the rows in memory give too. Compare processor times where the machine has other work.", "",
                  "| rows | queries | ms | processor, ms | rows a second | GB/s | x reading alone | x uploading alone | waiting | same ids |",
                  "|---|---|---|---|---|---|---|---|---|---|"]
    for text, count, _, line in files:
        cells = [text, f"{count:,}", f"{line['seconds'] * 1e3:.0f}", f"{line['processor_seconds'] * 1e3:.0f}"]
        if "recall" in line:
            gigabytes = line["disk_gigabytes_per_second"]
            cells += [f"{line['disk_rows_per_second']:,.0f}", f"{gigabytes:.2f}", *(f"{gigabytes / line[alone]:.2f}" for alone in ("read_gigabytes_per_second", "upload_gigabytes_per_second")),
                      f"{100 * line['disk_waited_share']:.0f} %", f"{line['recall']:.4f}"]
        else:
            cells += [""] * 6
        lines.append("| " + " | ".join(cells) + " |")
    if given:
        line = given[0][3]
        lines += ["", f"Of {line['rows']:,} given rows of width {line['dimension']} and {given[0][1]:,} queries:", "", "| rows | k | same ids |", "|---|---|---|"]
        lines += [f"| {text} | {k} | {line['recall']:.4f} |" for text, _, k, line in given]
    return lines


def rate(options, gflops):
    """A rate in the unit of the device's tables."""
    return f"{gflops / 1e3:.2f}" if options.device == "gpu" else f"{gflops:.0f}"


def unit(options):
    return "TFLOP/s" if options.device == "gpu" else "GFLOP/s"


PRODUCT = ("the fastest bare product there is on the device: of the same queries with 65,536 rows or with 8,192, or (from 64 queries on) of square matrices, by the tensor "
           "library or by the layers of our encoder")


def machine():
    name = platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {threads} threads"


def ratio(measured, name, place):
    """A peer's seconds (place 0) or processor seconds (1) over ours, in the middle of the rounds; nothing where ours are too few to count."""
    ratios = [line[name][place] / line["ours"][place] for line in measured if line["ours"][place] > 0]
    return f"{statistics.median(ratios):.2f}" if ratios else ""


def section(options, found):
    median = statistics.median
    measured_shapes = {shape: measured for shape, measured in sorted(found.rounds.items()) if measured}
    most = max(map(len, measured_shapes.values()), default=0)
    lines = [
        MARK[0],
        "## Search",
        "",
        f"Exact top-k, {'float16, sums in float32' if options.half else 'float32'}, {options.rows:,} rows of width {options.dimension}, device `{options.device}`; {machine()}; {datetime.date.today()}; "
        f"`scripts/bench-search --device {options.device} --rows {options.rows} --dimension {options.dimension}{' --half' if options.half else ''}{f' --queries {options.queries}' if options.queries else ''}`.",
        f"All search the same numbers, in turn; the machine may have had other work, so milliseconds are medians over {most} of {options.rounds} rounds (the last may be incomplete) and",
        "ratios are medians of the ratios within a round: the peer's time over ours, above 1 ours is faster. Processor time counts all threads (not the GPU's). The",
        f"product is {PRODUCT}, measured in the same round; GB/s is the least",
        "there is to move (rows and queries read once, answer written), beside a copy of memory of that device, read and written bytes counted.",
    ]
    if any("faiss" in name for name in found.others):
        lines += [f"OpenBLAS, which faiss uses, was told the processor's instructions (`OPENBLAS_CORETYPE={os.environ.get('OPENBLAS_CORETYPE', '')}`): the one in the wheel does not know newer processors."]
    lines.append("")
    head = ["queries", "k", "ours, ms", "processor, ms", unit(options), "x bare product", "GB/s", "x copy"]
    head += ["device, MiB"] if options.device != "cpu" else []
    for name in found.others:
        head += [f"{name}: ratio, clock", "processor", "same ids"]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for (count, k), measured in measured_shapes.items():
        own = [line["ours"] for line in measured]
        more = lambda key: median(values[2][key] for values in own)
        cells = [count, k, f"{median(v[0] for v in own) * 1e3:.1f}", f"{median(v[1] for v in own) * 1e3:.1f}"]
        cells += [rate(options, more("gflops")), f"{more('product_share'):.2f}", f"{more('gigabytes_per_second'):.1f}", f"{more('bandwidth_share'):.2f}"]
        cells += [f"{more('device_mib'):.0f}"] if options.device != "cpu" else []
        for name in found.others:
            cells += [ratio(measured, name, 0), ratio(measured, name, 1), f"{measured[0][name][2]:.4f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    if found.draws:
        lines += ["", "What the other requests cost, beside the best 100 for 1,024 queries (medians of three):", "", "| asked for | ms | times | processor, ms | times |", "|---|---|---|---|---|"]
        middle = lambda choice, key: median(line[key] for line in found.draws[choice])
        for choice in found.draws:
            cells = []
            for key in ("seconds", "processor_seconds"):
                value, best = middle(choice, key), middle("best", key)
                cells += [f"{value * 1e3:.1f}", f"{value / best:.2f}" if best else ""]
            lines.append(f"| {DRAWS[choice]} | " + " | ".join(cells) + " |")
    return lines + files_section(found.files, found.given) + [MARK[1]]


def problems(options):
    """(rows, width) -> [(queries, k)] of the catalogue, and those left out for their size."""
    middle = (options.rows, 384, 1024, 100)
    asked = [(*middle[:2], queries, 100) for queries in QUERIES] + [(*middle[:3], k) for k in DEPTHS]
    asked += [(rows, *middle[1:]) for rows in ROWS] + [(middle[0], width, *middle[2:]) for width in DIMENSIONS]
    fitting, large = {}, []
    for rows, width, queries, k in dict.fromkeys(asked):
        if rows * width * (2 if options.half else 4) > options.gigabytes * 1e9 or 2 * rows * width * queries > options.teraflop * 1e12:
            large.append((rows, width, queries, k))
        else:
            fitting.setdefault((rows, width), []).append((queries, k))
    return fitting, large


def catalogue(options, found, save):
    """Measures ours, shape by shape."""
    for (rows, width), asked in problems(options)[0].items():
        with Ours(argparse.Namespace(**{**vars(options), "rows": rows, "dimension": width})) as ours:
            for queries, k in asked:
                line = found[rows, width, queries, k] = ours.ask(queries, k)
                print(f"{rows:,} x {width}, {queries} queries, k = {k}: {line['seconds'] * 1e3:.1f} ms", flush=True)
                save()


def catalogue_section(options, found):
    lines = [CATALOGUE_MARK[0], "## Search, shape by shape", "",
             f"Ours alone; device `{options.device}`; {'16-bit operands' if options.half else 'float32'}; {machine()}; {datetime.date.today()}; `scripts/bench-search --catalogue --device "
             f"{options.device}{' --half' if options.half else ''}`. Medians of three or more runs.",
             f"The product is {PRODUCT}; it and the copy are measured for every shape; the least to move is every row and query read once and the answer written.", "",
             f"| rows | width | queries | k | ms | processor, ms | {unit(options)} | x bare product | least to move, MB | GB/s of it | x copy |", "|---|---|---|---|---|---|---|---|---|---|---|"]
    for (rows, width, queries, k), line in sorted(found.items()):
        cells = [f"{rows:,}", width, f"{queries:,}", f"{k:,}", f"{line['seconds'] * 1e3:.1f}", f"{line['processor_seconds'] * 1e3:.1f}", rate(options, line["gflops"]),
                 f"{line['product_share']:.2f}", f"{line['least_bytes'] / 1e6:.0f}", f"{line['gigabytes_per_second']:.1f}", f"{line['bandwidth_share']:.2f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    fitting, large = problems(options)
    late = [(*store, *ask) for store, asked in fitting.items() for ask in asked if (*store, *ask) not in found]
    for text, left_out in (("for their size", large), ("for lack of time", late)):
        if left_out:
            lines += ["", f"Left out {text}: " + "; ".join(f"{rows:,} x {width}, {queries:,} queries, k = {k:,}" for rows, width, queries, k in left_out) + "."]
    return lines + [CATALOGUE_MARK[1]]


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


def main():
    options = arguments()
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, stop)
    signal.setitimer(signal.ITIMER_REAL, options.seconds)
    found = {} if options.catalogue else Found(options)
    text, mark = (catalogue_section, CATALOGUE_MARK) if options.catalogue else (section, MARK)
    save = lambda: write(options.output, text(options, found), mark)
    try:
        if options.catalogue:
            catalogue(options, found, save)
        elif comparable():
            with tempfile.TemporaryDirectory(prefix="dredge-search-") as folder:
                measure(options, folder, found, save)
        else:
            measure(options, None, found, save)
    except Stopped:
        print(f"stopped after {options.seconds:.0f} s or earlier, with what was measured by then", flush=True)
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    save()
    print("\n".join(text(options, found)))


if __name__ == "__main__":
    main()
