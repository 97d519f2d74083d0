"""Gates: continuous integration for datasets. A gate judges the step from one snapshot to another by rules in YAML.

The same snapshots, rules and near-duplicate clusters give the same report, byte for byte.
"""

from __future__ import annotations

from refinery.gates.measure import Gate
from refinery.gates.report import Evidence, GateReport, Measure, Result
from refinery.gates.rules import GateRules, load_rules, parse_rules

__all__ = ["Evidence", "Gate", "GateReport", "GateRules", "Measure", "Result", "load_rules", "parse_rules"]
