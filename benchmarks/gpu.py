"""All that only a GPU can show, in one run of at most eight minutes on a machine of its own.

    python benchmarks/gpu.py [--out reports/measurements] [--parts tests,trials,reads,large,speed,profile] [--rehearse]

The parts, each in a process of its own with a limit of its own, its results on disk before the next begins: the tests
that need CUDA (of tests/blocks and tests/evaluation); four trials on the embedded `scenes`, on the GPU and on the CPU;
reads from the device in training steps; the speed and memory of COCO's whole 5K test; that of scores and steps;
profiles. The part `tuning`, on request, times the kernel in several shapes. Times are medians after a warm-up, the
device's work included. It needs torch with CUDA, numpy and the packages of `make gpu-wheels`, and neither MLflow,
Optuna, Ray nor a network. --rehearse runs all of it on the CPU at toy size, into a folder given by --out.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from on_gpu.results import PAGE, Results  # noqa: E402

from harness.trial.environment import cpu_model  # noqa: E402

MEASUREMENTS = ROOT / "reports" / "measurements"
PARTS = {
    "tests": 90,
    "trials": 70,
    "reads": 25,
    "large": 130,
    "speed": 120,
    "profile": 40,
    "tuning": 100,
}  # seconds that each may take; all but the last together at most eight minutes
MODULES = {
    "trials": "trials",
    "reads": "steps",
    "speed": "speed",
    "large": "large",
    "profile": "profiles",
    "tuning": "kernels",
}
USUAL = tuple(part for part in PARTS if part != "tuning")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=MEASUREMENTS)
    parser.add_argument("--parts", default=",".join(USUAL))
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at toy size")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = "cpu" if args.rehearse else "cuda:0"
    if device != "cpu" and not torch.cuda.is_available():
        print("error: torch sees no CUDA device here; --rehearse runs everything on the CPU", file=sys.stderr)
        return 1
    if args.rehearse:
        torch.set_num_threads(1)
        os.environ["TRITON_INTERPRET"] = "1"
    if args.part:
        run_part(args.part, Results(args.out), device, args.rehearse)
        return 0
    return run_all(args, device)


def run_all(args: argparse.Namespace, device: str) -> int:
    """Every part in its own process; 1 if one of them failed."""
    results = Results(args.out)
    results.put("machine", machine(device))
    names = args.parts.split(",")
    for name in (*names, "problems"):
        results.put(name, [])
    problems = [problem for name in names for problem in [ended(name, args)] if problem]
    print((args.out / PAGE).read_text())
    return 1 if problems else 0


def ended(name: str, args: argparse.Namespace) -> str:
    """Run one part; what went wrong, which is written down too."""
    command = [sys.executable, str(Path(__file__)), "--part", name, "--out", str(args.out)]
    start, problem = time.perf_counter(), ""
    try:
        code = subprocess.run(
            [*command, *(["--rehearse"] if args.rehearse else [])], cwd=ROOT, timeout=PARTS[name]
        ).returncode
        problem = f"ended with {code}" if code else ""
    except subprocess.TimeoutExpired:
        problem = f"took longer than {PARTS[name]} s and was ended"
    print(f"{name}: {time.perf_counter() - start:.1f} s {problem}", flush=True)
    if problem:
        Results(args.out).add("problems", {"part": name, "problem": problem})
    return problem


def run_part(name: str, results: Results, device: str, rehearse: bool) -> None:
    if name == "tests":
        run_tests(results, parallel=not rehearse)
    else:
        importlib.import_module(f"on_gpu.{MODULES[name]}").run(results, device, rehearse)


def run_tests(results: Results, parallel: bool) -> None:
    """The tests marked for CUDA, by pytest without the project's own fixtures, which need Ray."""
    start = time.perf_counter()
    files = ["tests/blocks/test_cuda.py", "tests/blocks/test_kernels.py", "tests/evaluation/test_device_ranks.py"]
    options = {"xdist": ("-n", "8"), "pytest_timeout": ("--timeout", "60")}  # where they are installed
    extra = [word for module, words in options.items() if parallel and find_spec(module) for word in words]
    paths = [f"-opythonpath={ROOT} {ROOT}/benchmarks {ROOT}/tests/support", "--import-mode=importlib", "--noconftest"]
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=short", "-p", "no:cacheprovider", "-c", "/dev/null"]
    command += ["--durations=8", "-Wignore", *extra]
    done = subprocess.run(
        [*command, f"--rootdir={ROOT}", *paths, *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(done.stdout[-6000:], done.stderr[-2000:])
    lines = done.stdout.strip().splitlines() or ["no output"]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    row = {"outcome": "passed" if done.returncode == 0 else "failed", "seconds": time.perf_counter() - start}
    results.add("tests", {**row, "summary": "; ".join([lines[-1], *failed])})


def machine(device: str) -> dict[str, str]:
    name = torch.cuda.get_device_name() if device != "cpu" else f"the CPU ({cpu_model()})"
    return {"device": name, "torch": torch.__version__, "cuda": str(torch.version.cuda), "cpu": cpu_model()}


if __name__ == "__main__":
    sys.exit(main())
