"""Reads dashboards into Grafana's own model and writes them again: a key that Grafana does not know is lost on the way.

Usage: dashboard_schema.py FILE...
"""

import json
import pathlib
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def faults(sent, kept, path):
    """Everything in `sent` that is absent from `kept` or differs there."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        for key, value in sent.items():
            if key not in kept:
                # Absent and null mean the same.
                if value is not None:
                    yield f"{path}.{key}: Grafana does not know this key"
            else:
                yield from faults(value, kept[key], f"{path}.{key}")
    elif isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        for number, (one, other) in enumerate(zip(sent, kept)):
            yield from faults(one, other, f"{path}[{number}]")
    elif sent != kept:
        yield f"{path}: Grafana reads {kept!r} instead of {sent!r}"


register_default_plugins()
found = []
for name in sys.argv[1:]:
    sent = json.loads(pathlib.Path(name).read_text(encoding="utf-8"))
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json(sent)))
    found.extend(faults(sent, kept, pathlib.Path(name).name))
print("\n".join(found))
sys.exit(1 if found else 0)
