"""A real recorded series: sea surface temperature off New England, every half hour for a year (19,226 values).

It ships in the wheel `bokeh_sampledata`. The gzipped file is read as it lies; importing the package would ask for pandas.
"""

import csv
import gzip
import importlib.util
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from deploy.lab.process import LabError

_FILE = "sea_surface_temperature.csv.gz"


def sea_temperature() -> Iterator[tuple[datetime, float]]:
    """Time of measurement (UTC) and degrees Celsius, in the order recorded."""
    with gzip.open(_data() / _FILE, "rt", newline="") as text:
        rows = csv.reader(text)
        next(rows)
        for time, celsius in rows:
            yield datetime.fromisoformat(time), float(celsius)


def _data() -> Path:
    # find_spec locates a top-level package without running it.
    spec = importlib.util.find_spec("bokeh_sampledata")
    if spec is None or not spec.submodule_search_locations:
        raise LabError(
            "the recorded series is not installed", "run `make setup`, which installs requirements-data.lock"
        )
    return Path(spec.submodule_search_locations[0]) / "_data"
