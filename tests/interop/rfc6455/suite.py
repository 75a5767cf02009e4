"""Conversations of python's `websockets` with the echo mount, judged by that library.

    python suite.py ADDRESS ECHO_PATH IGNIS_PATH [--only TEXT]

Says one line for each failure and a summary, `N cases, M failed`; the exit code is 1 when a case failed. The echo
mount has its default bounds and compression; the Ignis mount is in dev mode with compression.
"""

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

import cases
import compression
import deviations
import sessions
import upgrades
from peer import Peer

# Conversations that go on at the same time.
WORKERS = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("echo_path")
    parser.add_argument("ignis_path")
    parser.add_argument("--only", default="", help="runs the cases whose name contains this")
    parser.add_argument("--slowest", type=int, default=0, help="names that many of the slowest cases")
    args = parser.parse_args()
    runs = [run for run in all_runs(args) if args.only in run[0]]
    with ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(timed, runs))
    failed = 0
    for (name, _), (differences, _) in zip(runs, results):
        failed += bool(differences)
        for expected, got in differences:
            print(f"{name}: expected {expected}, got {got}")
    for (name, _), (_, took) in sorted(zip(runs, results), key=lambda run: -run[1][1])[: args.slowest]:
        print(f"{took:.2f} s {name}", file=sys.stderr)
    print(f"{len(runs)} cases, {failed} failed")
    return 1 if failed else 0


def timed(run):
    _, converse = run
    began = time.monotonic()
    try:
        differences = converse()
    except Exception as error:
        differences = [("no exception", repr(error))]
    return differences, time.monotonic() - began


def all_runs(args) -> list[tuple[str, Callable]]:
    """Names, and what finds the differences."""
    url = f"ws://{args.address}{args.echo_path}"
    conversations = chain(cases.all_cases(), compression.all_cases(), upgrades.all_cases(), deviations.all_cases())
    runs = [
        (f"{case.name} [{delivery}]", partial(differences, url, case, delivery))
        for case in conversations
        for delivery in case.deliveries
    ]
    return runs + sessions.all_runs(args.address, args.echo_path, args.ignis_path)


def differences(url: str, case: cases.Case, delivery: str):
    return Peer(url, case.wishes).converse(case.steps, delivery).differences(case.expected)


if __name__ == "__main__":
    sys.exit(main())
