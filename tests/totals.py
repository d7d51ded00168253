"""Adds up the JUnit files of the tiers: prints one closing line for all of them, and exits 1 when a test failed or none ran."""

import sys
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree  # our own pytest wrote these files


def totals(files: Iterable[Path]) -> tuple[int, int, int]:
    """Passed, failed (errors are failures) and skipped, over all suites of the files."""
    tests = failed = skipped = 0
    for file in files:
        for suite in ElementTree.parse(file).getroot().iter("testsuite"):
            tests += int(suite.get("tests", "0"))
            failed += int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
            skipped += int(suite.get("skipped", "0"))
    return tests - failed - skipped, failed, skipped


def main(arguments: list[str]) -> int:
    """The closing line of `./run test`."""
    passed, failed, skipped = totals(Path(a) for a in arguments if Path(a).is_file())
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
