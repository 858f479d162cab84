"""No Python file over 400 lines: a crowded room is redesigned. Prints the median, which should stay near 150."""

import statistics
import subprocess
import sys
from pathlib import Path

LIMIT = 400


def measure(root: Path) -> dict[str, int]:
    """Lines of every Python file that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split()
    return {name: len((root / name).read_text().splitlines()) for name in sorted(set(listed)) if (root / name).exists()}


def main() -> int:
    """Exit 1 if a file is too long."""
    sizes = measure(Path())
    filled = [lines for lines in sizes.values() if lines]
    if not filled:
        print("sizes: there is no Python file here; run this from the project's root", file=sys.stderr)
        return 2
    print(
        f"sizes: {len(filled)} Python files, {sum(filled)} lines, median {statistics.median(filled):.0f}, longest {max(filled)}"
    )
    too_long = {name: lines for name, lines in sizes.items() if lines > LIMIT}
    for name, lines in too_long.items():
        print(
            f"sizes: {name} has {lines} lines, {LIMIT} are allowed; give a part of it a room of its own",
            file=sys.stderr,
        )
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
