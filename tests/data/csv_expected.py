#!/usr/bin/env python3
"""What the recipe `csv.profile` must answer for a file, computed by Python's own modules.

    python3 tests/data/csv_expected.py FILE [--delimiter=;] [--no-header]

Prints the same JSON as the recipe. Shares no code with it: `csv` reads the rows, `statistics` does
the numbers, `datetime` the dates. `tests/data/expected/` holds its output for `examples/data/`:

    for f in airports birdstrikes seattle-weather; do
        python3 tests/data/csv_expected.py examples/data/$f.csv > tests/data/expected/$f.json
    done
"""

import csv
import datetime
import io
import json
import re
import statistics
import sys
from collections import Counter

INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
MALFORMED_LISTED = 20
COMMON_LISTED = 5
TEXT_CHARS = 100


def is_integer(text):
    return INTEGER.fullmatch(text) is not None and -(2**63) <= int(text) < 2**63


def is_float(text):
    return FLOAT.fullmatch(text) is not None and abs(float(text)) != float("inf")


def is_boolean(text):
    return text.lower() in ("true", "false")


def is_date(text):
    if not DATE.fullmatch(text):
        return False
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def column_type(texts):
    if not texts:
        return "empty"
    for name, holds in [
        ("integer", is_integer),
        ("float", is_float),
        ("boolean", is_boolean),
        ("date", is_date),
    ]:
        if all(map(holds, texts)):
            return name
    return "string"


def numbers(texts, kind):
    values = [int(t) if kind == "integer" else float(t) for t in texts]
    if len(values) > 1:
        quartiles = statistics.quantiles(values, n=4, method="inclusive")
        stddev = statistics.stdev(values)
    else:
        quartiles, stddev = [values[0]] * 3, None
    return {
        "min": min(values),
        "max": max(values),
        "mean": statistics.fmean(values),
        "stddev": stddev,
        "p25": quartiles[0],
        "p50": quartiles[1],
        "p75": quartiles[2],
    }


def common(texts):
    ranked = sorted(Counter(texts).items(), key=lambda vc: (-vc[1], vc[0].encode()))
    return [{"value": v[:TEXT_CHARS], "count": c} for v, c in ranked[:COMMON_LISTED]]


def column(name, cells):
    texts = [c for c in cells if c]
    kind = column_type(texts)
    out = {
        "name": name[:TEXT_CHARS],
        "type": kind,
        "count": len(texts),
        "empty": len(cells) - len(texts),
        "distinct": len(set(texts)),
    }
    if kind in ("integer", "float"):
        out |= numbers(texts, kind)
    elif kind == "date":
        out |= {"min": min(texts), "max": max(texts)}
    elif kind == "boolean":
        out |= {"most_common": common(texts)}
    elif kind == "string":
        lengths = [len(t) for t in texts]
        out |= {
            "min_length": min(lengths),
            "max_length": max(lengths),
            "most_common": common(texts),
        }
    return out


def profile(text, delimiter=",", header=True):
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter)
    names, rows, malformed, count = None, [], [], 0
    end = 0
    for fields in reader:
        start, end = end + 1, reader.line_num
        if not fields:
            continue
        if names is None:
            names = [f.strip(" \t") for f in fields] if header else [
                f"column_{i + 1}" for i in range(len(fields))
            ]
            if header:
                continue
        if len(fields) == len(names):
            rows.append([f.strip(" \t") for f in fields])
        else:
            count += 1
            if len(malformed) < MALFORMED_LISTED:
                malformed.append({"line": start, "fields": len(fields), "expected": len(names)})
    columns = [column(n, [r[i] for r in rows]) for i, n in enumerate(names or [])]
    return {
        "rows": len(rows),
        "columns": columns,
        "malformed": {"count": count, "rows": malformed},
    }


def main():
    options = [a for a in sys.argv[1:] if a.startswith("--")]
    (path,) = [a for a in sys.argv[1:] if not a.startswith("--")]
    delimiter = next((o[12:] for o in options if o.startswith("--delimiter=")), ",")
    with open(path, encoding="utf-8", newline="") as f:
        text = f.read()
    print(json.dumps(profile(text, delimiter, "--no-header" not in options), indent=1))


if __name__ == "__main__":
    main()
