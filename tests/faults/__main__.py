"""Break everything, and see that what is promised holds: `make faults`, or

    PYTHONPATH=tests python -m faults [--only TEXT] [--seed N] [--short] [--keep] [--into FOLDER]

Runs the scenarios one after the other, prints what came out of each, writes a report as JSON and as Markdown, and ends
with 1 where something is wrong. The seed of a run makes the same faults in the same order again.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import traceback
from pathlib import Path

from faults import fuzzing, report
from faults.scenario import Scenario
from faults.scenarios import ALL

INTO = Path(__file__).parents[2] / "build"


async def main() -> int:
    arguments = _arguments()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    chosen = [scenario for scenario in ALL if arguments.only in scenario.name]
    fuzzes = arguments.only in fuzzing.NAME
    if not chosen and not fuzzes:
        names = [*(scenario.name for scenario in ALL), fuzzing.NAME]
        print(f"there is no scenario with {arguments.only!r} in its name: {', '.join(names)}")
        return 2
    print(f"seed {seed}", flush=True)
    results = report.Results()
    for scenario in chosen:
        print(f"\n{scenario.name}: {scenario.title}", flush=True)
        with tempfile.TemporaryDirectory(prefix="walnatsd-faults-") as folder:
            await _play(scenario, seed, Path(folder), arguments, results)
    if fuzzes:
        print(f"\n{fuzzing.NAME}: {fuzzing.TITLE}", flush=True)
        fuzzed = await fuzzing.fuzz(seed, short=arguments.short)
        results.add_fuzzed(seed, fuzzed)
        print(fuzzed.text, flush=True)
    arguments.into.mkdir(parents=True, exist_ok=True)
    (arguments.into / "faults.json").write_text(results.as_json())
    (arguments.into / "faults.md").write_text(results.as_markdown() + "\n")
    if arguments.keep:
        report.keep(results)
    print(f"\n{results.as_markdown()}\n\nreport: {arguments.into / 'faults.json'}, {arguments.into / 'faults.md'}")
    return 0 if results.are_good else 1


async def _play(
    scenario: Scenario, seed: int, folder: Path, arguments: argparse.Namespace, results: report.Results
) -> None:
    try:
        verdict = await scenario.play(scenario.short if arguments.short else scenario.long, seed=seed, folder=folder)
    except Exception as error:  # noqa: BLE001 - the other scenarios shall run all the same
        results.add_failure(scenario, seed, f"{type(error).__name__}: {error}")
        traceback.print_exc()
        print("WRONG: it could not be carried out", flush=True)
    else:
        results.add(scenario, verdict)
        print(verdict.text, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="only the scenarios with this text in their name")
    parser.add_argument("--seed", type=int, metavar="N", help="the faults of an earlier run")
    parser.add_argument("--short", action="store_true", help="the form that the tests run")
    parser.add_argument("--keep", action="store_true", help="keep what comes out for docs/reliability.md")
    parser.add_argument("--into", type=Path, default=INTO, metavar="FOLDER", help="where the report goes")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
