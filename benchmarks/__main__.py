"""How fast walnatsd is, beside its peers, on this machine and in one run.

    python -m benchmarks [--quick] [--only TEXT] [--rounds N] [--json FILE] [--chart FILE] [--keep]

Every case measures all its sides one after the other, several times; a ratio compares the figures of one round, and the
median of the rounds counts. Figures of different runs, or machines, say little; their ratios do.
"""

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from pathlib import Path

import uvloop

from benchmarks import dispatching, emitting, footprint, report
from benchmarks.case import Scale
from benchmarks.stage import stage

FULL = Scale(rounds=5, seconds=3.0, messages=20_000, drained=1_000_000)
QUICK = Scale(rounds=1, seconds=1.0, messages=4_000, drained=20_000)
CASES = emitting.CASES + dispatching.CASES + footprint.CASES
KEPT = Path(__file__).parent / "kept.json"


async def main() -> int:
    arguments = _arguments()
    scale = QUICK if arguments.quick else FULL
    scale = dataclasses.replace(scale, rounds=arguments.rounds or scale.rounds)
    cases = [case for case in CASES if arguments.only in case.name]
    if not cases:
        print(f"no case has {arguments.only!r} in its name: {'; '.join(case.name for case in CASES)}", file=sys.stderr)
        return 2
    for case in cases:
        if case.needs and shutil.which(case.needs) is None:
            print(
                f"{case.needs!r} is missing, which the case {case.name!r} needs; install it "
                f"(Debian: apt-get install {case.needs}), or choose other cases with --only",
                file=sys.stderr,
            )
            return 2
    results: report.Results = []
    with tempfile.TemporaryDirectory() as folder:
        async with stage(Path(folder)) as where:
            for case in cases:
                rounds = []
                for number in range(1 if case.once else scale.rounds):
                    print(f"… {case.name}, round {number + 1}", file=sys.stderr, flush=True)
                    rounds.append(await case.measure(where, scale))
                results.append((case, rounds))
    print(report.table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(report.as_json(results), indent=1) + "\n")
    if arguments.chart:
        report.chart(results, arguments.chart)
    if arguments.keep:
        report.keep(results, KEPT)
    elif arguments.quick and KEPT.exists():
        print("\n" + report.compare(results, KEPT))
    return 0


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError
    return count


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little of everything, and compare with what is kept")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases with this text in their name")
    parser.add_argument("--rounds", type=_count, metavar="N", help="how often each case is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw what is reached there (SVG)")
    parser.add_argument(
        "--keep", action="store_true", help="keep these ratios in the repository, to compare with later"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
