"""Measure detection, training, data loading, memory and start, and compare them with aims.

    python scripts/benchmark.py detect | train | data | memory | import | all
    python scripts/benchmark.py detect --only R50 --profile
    KERAS_BACKEND=jax python scripts/benchmark.py gpu

Prints a table and appends it to the file of this day and machine in benchmarks/. README.md there
explains how a figure is made. Each row runs in its own process. The exit status is 1 if a row
failed; the other rows are printed and written in any case.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

# This checkout, in case the package is not installed.
ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

# `rows` imports no framework here, so this process stays small: a new process can inherit the peak
# memory of the process that starts it.
from mrcnn.files import write_text  # noqa: E402
from scripts.benchmarks import rows  # noqa: E402
from scripts.benchmarks.measuring import Settings  # noqa: E402

BENCHMARKS = ROOT / "benchmarks"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        command: the sub-command it belongs to. work: a description of what is measured.
        function, arguments: the arguments of `rows.run`.
        aim, original, torchvision: figures to compare with, in the unit of the value; "" for none.
        backend: KERAS_BACKEND; None keeps the user's.
    """

    command: str
    work: str
    function: str
    arguments: dict = field(default_factory=dict)
    aim: str = ""
    original: str = ""
    torchvision: str = ""
    backend: str | None = None


def _detect(work, policy, aim, original="", torchvision="", *, backbone="resnet101", **arguments):
    name = {"float32": "float32", "mixed_bfloat16": "bfloat16"}[policy]
    arguments |= {"backbone": backbone, "policy": policy}
    return Row("detect", f"{work}, {name}", "detect", arguments, aim, original, torchvision)


def _train(positives, policy, aim, original, torchvision):
    name = {"float32": "float32", "mixed_bfloat16": "bfloat16"}[policy]
    work = f"step, R50, 512x512, batch 2, {positives} positives, {name}"
    arguments = {"backbone": "resnet50", "policy": policy, "positives": positives}
    return Row("train", work, "train", arguments, aim, original, torchvision)


LARGE_101, LARGE_50 = "R101, 1024x1024, 100 objects", "R50, 1024x1024, 100 objects"
PHOTO = {"shape": (480, 640), "count": 8}
RECTANGLE = "R101, 640x480 to 1024x768, 8 objects"
F32, BF16 = "float32", "mixed_bfloat16"

# Aims and the figures of others: GEMMs, images per GEMM, seconds, GB.
ROWS = [
    _detect(LARGE_101, F32, "<= 6.5", "9.0", "8.2"),
    _detect(LARGE_50, F32, "<= 5.3", "8.6", "6.0", backbone="resnet50"),
    _detect(RECTANGLE, F32, "<= 4.5", "9.0", mode="rectangle", **PHOTO),
    _detect("R101, the same in a square", F32, "", "9.0", **PHOTO),
    _detect(LARGE_101, BF16, "<= 3.6", "", "4.9"),
    _detect(LARGE_50, BF16, "<= 3.0", "", "4.7", backbone="resnet50"),
    _detect(RECTANGLE, BF16, "<= 2.6", mode="rectangle", **PHOTO),
    _train("few", F32, "<= 9", "75 to 95", "8.5"),
    _train("few", BF16, "<= 5.5", "", "5.5"),
    _train("many", F32, "<= 9", "75 to 95", "13.5"),
    _train("many", BF16, "<= 5.5", "", "8.0"),
    Row(
        "data",
        "one worker, 480x640 to 1024x1024, 7 objects, RPN targets",
        "data",
        {},
        ">= 14",
        "2.3",
    ),
    Row("memory", "detect, R101, 1024x1024", "memory_detect", {}, "<= 1.5", "1.14", "2.3"),
    Row("memory", "step, R50, 512x512, batch 2", "memory_train", {}, "<= 2.5", "4.1", "1.9 to 2.7"),
    Row("memory", "from 30 to 300 detections", "flat_detect", {}, "<= 2 %"),
    Row("memory", "from 30 to 300 steps", "flat_train", {}, "<= 2 %"),
    Row("import", "import, build, first detection, R101", "start", {}, "<= 7", "7.0 to 7.6"),
]


def gpu_rows(quick: bool) -> list[Row]:
    """Rows of `gpu`: this package's on Keras' backend; torchvision's follow those of R50."""
    result = []
    for kind, aim in (("detect", 2.0), ("train", 1.3)):
        for backbone, title in (("resnet50", "R50"), ("resnet101", "R101")):
            for batch in (1, 2) if quick else (1, 8, 16):
                work = f"{kind}, {title}, 1024x1024, batch {batch}, bfloat16"
                arguments = {"backbone": backbone, "batch": batch}
                aims = backbone == "resnet50" and (batch == 8 or kind == "train")
                result.append(
                    Row("gpu", work, f"gpu_{kind}", arguments, f">= {aim} x torchvision" * aims)
                )
                if backbone == "resnet50":
                    result.append(
                        Row(
                            "gpu",
                            f"torchvision's {work}",
                            f"torchvision_{kind}",
                            {"batch": batch},
                            backend="torch",
                        )
                    )
    return result


def rows_of(command: str, only: str, quick: bool) -> list[Row]:
    """The rows of a sub-command whose description contains `only`, in upper or lower case."""
    if command == "gpu":
        chosen = gpu_rows(quick)
    else:
        chosen = [row for row in ROWS if command in ("all", row.command)]
    return [row for row in chosen if only.lower() in f"{row.command} {row.work}".lower()]


# ---- The table -----------------------------------------------------------------------------------


def value(row: Row, result: dict) -> str:
    """The main figure of a row, with its unit."""
    if "error" in result:
        return "failed"
    if row.command == "memory":
        if "growth" in result:
            return f"{100 * result['growth']:+.1f} %"
        return f"{result['gigabytes']:.2f} GB"
    if row.command == "data":
        return f"{result['images_per_gemm']:.1f} images per GEMM"
    if row.command == "import":
        return f"{result['seconds']['median']:.1f} s"
    if row.command == "gpu":
        return f"{result['images_per_second']:.1f} images/s"
    return f"{result['gemms']['median']:.2f} GEMMs (min {result['gemms']['min']:.2f})"


def notes(result: dict) -> str:
    """The other figures of a row, in words."""
    if "error" in result:
        return result["error"]
    words = []
    if "seconds" in result:
        times = result["seconds"], result["gemm_seconds"]
        work, gemm = (f"{t['median']:.3f} s (min {t['min']:.3f})" for t in times)
        words.append(f"{work}, GEMM {gemm}")
    for name, form in (
        ("images_per_second", "{:.2f} images/s"),
        ("detections", "{} detections"),
        ("positive_rois", "positive ROIs {}"),
        ("network_images_per_second", "{:.1f} images/s of the network alone"),
        ("device_gigabytes", "{:.2f} GB of the device"),
        ("times_torchvision", "{:.2f} times torchvision's"),
    ):
        if name in result:
            words.append(form.format(result[name]))
    if "agreement" in result:
        share = {name: f"{100 * part:.0f} %" for name, part in result["agreement"].items()}
        words.append(f"as in float32: boxes {share['boxes']}, with masks {share['masks']}")
    if "parts" in result:
        words.append(", ".join(f"{name} {s:.1f} s" for name, s in result["parts"].items()))
    return "; ".join(words)


def table(measured: list[tuple[Row, dict]]) -> str:
    """The table in Markdown."""
    lines = [["work", "measured", "aim", "original", "torchvision", "more"]]
    lines += [
        [f"{row.command}: {row.work}", value(row, result), row.aim, row.original, row.torchvision]
        + [notes(result)]
        for row, result in measured
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    # The last column is not padded.
    widths[-1] = 0
    texts = ["| " + " | ".join(c.ljust(w) for c, w in zip(x, widths, strict=True)) for x in lines]
    texts.insert(1, "|" + "|".join("-" * (width + 2) for width in widths))
    return "\n".join(f"{text} |" for text in texts)


def compare_with_torchvision(measured: list[tuple[Row, dict]]) -> None:
    """Add to each result its speed relative to torchvision's at the same batch size."""
    of_torchvision = {
        (row.function.partition("_")[2], row.arguments["batch"]): result["images_per_second"]
        for row, result in measured
        if row.function.startswith("torchvision_") and "error" not in result
    }
    for row, result in measured:
        key = row.function.partition("_")[2], row.arguments.get("batch")
        is_ours = row.function.startswith("gpu_") and row.arguments["backbone"] == "resnet50"
        if is_ours and key in of_torchvision and "error" not in result:
            result["times_torchvision"] = result["images_per_second"] / of_torchvision[key]


# ---- The file ------------------------------------------------------------------------------------


def machine() -> dict:
    """CPU, number of cores that this process may use, memory in GB; None for unknown values."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            found = re.search(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
        cpu = found[1].strip() if found else cpu
    count = getattr(os, "sched_getaffinity", None)
    cores = len(count(0)) if count else os.cpu_count()
    memory = None
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9)
    return {"cpu": cpu, "cores": cores, "memory_gigabytes": memory}


def commit() -> str:
    """The commit that is checked out, with "-dirty" if files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def head(arguments) -> dict:
    """The part of a run's record that is taken at its start, because it may change meanwhile."""
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": " ".join(["scripts/benchmark.py", *arguments.given]),
        "commit": commit(),
    }


def record(started: dict, measured: list[tuple[Row, dict]]) -> dict:
    """The record of a run: `head`, the environment it ran in, and its rows."""
    environments = [result.pop("environment", None) for _, result in measured]
    # The first environment of a row that is not torchvision's, if there is one.
    known = [
        environment
        for (row, _), environment in zip(measured, environments, strict=True)
        if environment and row.backend is None
    ] or [environment for environment in environments if environment]
    environment = known[0] if known else {}
    return {
        **started,
        "backend": environment.get("backend"),
        "machine": {**machine(), "accelerator": environment.get("accelerator")},
        "versions": environment.get("versions", {}),
        "rows": [
            {
                "command": row.command,
                "work": row.work,
                "measured": value(row, result),
                "aim": row.aim,
                **_rounded(result),
            }
            for row, result in measured
        ],
    }


def _rounded(x):
    """Numbers rounded to four digits; more would be noise."""
    if isinstance(x, dict):
        return {key: _rounded(part) for key, part in x.items()}
    return float(f"{x:.4g}") if isinstance(x, float) else x


def append(folder: Path, run: dict) -> Path:
    """Add a run to the file of its day and machine; returns the file's path."""
    where = run["machine"]
    words = f"{where['cpu']} {where['cores']} cores {where['accelerator'] or ''}"
    words = re.sub(r"\((R|TM|C)\)", "", words, flags=re.IGNORECASE).lower()
    slug = "-".join(re.findall(r"[a-z0-9]+", words))
    path = folder / f"{run['date'][:10]}-{slug}.json"
    runs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, as_text([*runs, run]))
    return path


def as_text(runs: list[dict]) -> str:
    """JSON with one line per row, so that changes are easy to review."""
    texts = []
    for run in runs:
        lines = [f"    {json.dumps(row)}" for row in run["rows"]]
        head = [f"  {json.dumps(key)}: {json.dumps(run[key])}," for key in run if key != "rows"]
        texts.append("\n".join([" {", *head, '  "rows": [', ",\n".join(lines), "  ]", " }"]))
    return "[\n" + ",\n".join(texts) + "\n]\n"


# ---- Command line --------------------------------------------------------------------------------


def parse_arguments(argv=None) -> argparse.Namespace:
    """The command line; its attribute `given` holds the words as they were typed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    commands = ("detect", "train", "data", "memory", "import", "all", "gpu")
    add("command", choices=commands, help="what to measure; all is everything except gpu")
    add("--only", default="", metavar="TEXT", help="only rows whose description contains this")
    add("--profile", action="store_true", help="also print where the time goes")
    add("--repeats", type=int, default=7, metavar="N", help="timings per row (default 7)")
    add("--quick", action="store_true", help="tiny networks and images, to try this script")
    add(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder to write to (default benchmarks; none with --quick)",
    )
    arguments = parser.parse_args(argv)
    if arguments.output is None and not arguments.quick:
        arguments.output = BENCHMARKS
    arguments.given = list(sys.argv[1:] if argv is None else argv)
    if arguments.repeats < 1:
        parser.error(f"--repeats is {arguments.repeats}; it must be at least 1.")
    if not rows_of(arguments.command, arguments.only, arguments.quick):
        parser.error(f"--only {arguments.only!r} names no row of {arguments.command}.")
    return arguments


def measure(row: Row, settings: Settings) -> dict:
    """A row's result, or the error that it ended with."""
    try:
        return rows.run(row.function, row.arguments, settings, row.backend)
    except RuntimeError as error:
        return {"error": str(error)}


def main(argv=None) -> int:
    """Measure what the command line says; returns the exit status."""
    arguments = parse_arguments(argv)
    settings = Settings(arguments.quick, arguments.profile, arguments.repeats)
    started, measured = head(arguments), []
    for row in rows_of(arguments.command, arguments.only, arguments.quick):
        print(f"{row.command}: {row.work} …", file=sys.stderr, flush=True)
        measured.append((row, measure(row, settings)))
    compare_with_torchvision(measured)
    print(table(measured))
    if arguments.quick:
        print("\n--quick: the networks and images are tiny, not those that the rows name")
    if arguments.output:
        print(f"\nwritten to {append(arguments.output, record(started, measured))}")
    return int(any("error" in result for _, result in measured))


if __name__ == "__main__":
    sys.exit(main())
