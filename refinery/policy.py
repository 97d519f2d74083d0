"""Policies: ordered rules in the filter language that hold samples back, each with a reason code."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from refinery.config import validate
from refinery.digests import canonical_json, digest
from refinery.errors import ConfigError, InputError
from refinery.fields import Fields
from refinery.filter import Filter, parse

FORMAT = "refinery.policy/1"
STEPS = ("inspect", "embed", "near_duplicates")

DEFAULT_POLICY = """\
# What keeps a sample out of gold. Rules are read in order; every rule that matches gives its reason.
# `hold:` is a filter (SQL WHERE) over the fields that `refinery fields` lists. Try a change before you adopt it:
#   refinery policy try other-policy.yaml
name: default
requires: [inspect, embed, near_duplicates]   # facts a sample must have before it gets a verdict
rules:
  - {name: too_small, hold: "min_side < 256"}
  - {name: extreme_aspect, hold: "aspect <= 0.4 OR aspect >= 2.5"}
  - {name: blank, hold: "contrast < 0.02 OR entropy < 1.0"}
  - {name: blurry, hold: "sharpness < 10"}
  - {name: flagged, hold: "has_flag('reject')"}
  - {name: near_duplicate, hold: "near_duplicate"}
"""


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    hold: str


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = "default"
    requires: list[Literal["inspect", "embed", "near_duplicates"]] = ["inspect"]
    rules: list[_Rule] = []


@dataclass(frozen=True)
class Rule:
    """Hold every sample that `hold` selects, with `name` as the reason code."""

    name: str
    hold: Filter

    @property
    def after_near_duplicates(self) -> bool:
        """Whether the rule asks about near-duplicates, which is decided after all other rules."""
        return "near_duplicate" in self.hold.fields


@dataclass(frozen=True)
class Policy:
    """A checked policy. Its digest is that of its meaning: comments and layout of the YAML do not count."""

    name: str
    requires: tuple[str, ...]
    rules: tuple[Rule, ...]

    @cached_property
    def body(self) -> bytes:
        """Canonical JSON of the policy, as kept in the store."""
        rules = [{"name": r.name, "hold": r.hold.text} for r in self.rules]
        return canonical_json(
            {"format": FORMAT, "name": self.name, "requires": list(self.requires), "rules": rules}
        )

    @property
    def digest(self) -> str:
        return digest(self.body)

    def rule(self, name: str) -> Rule | None:
        """The rule with this name, if any."""
        return next((r for r in self.rules if r.name == name), None)


def parse_policy(text: str, fields: Fields, where: str = "policy") -> Policy:
    """A policy from YAML text. ConfigError names the rule and what is wrong with it."""
    try:
        raw = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {error}", kind="bad_policy") from None
    return _compile(validate(_Document, raw, where), fields, where)


def load_policy(path: Path, fields: Fields) -> Policy:
    """The policy in a YAML file. ConfigError when there is none or it is wrong."""
    try:
        return parse_policy(path.read_text(encoding="utf-8"), fields, str(path))
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise ConfigError(f"The policy {path} cannot be read: {error}.", kind="no_policy") from None


def stored_policy(body: bytes, fields: Fields) -> Policy:
    """A policy from the body that the store keeps."""
    raw: dict[str, Any] = yaml.safe_load(body)
    if raw.pop("format", None) != FORMAT:
        raise ConfigError(f"A stored policy is not {FORMAT}.", kind="unknown_format")
    return _compile(validate(_Document, raw, "stored policy"), fields, "stored policy")


def _compile(document: _Document, fields: Fields, where: str) -> Policy:
    names = [r.name for r in document.rules]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"{where}: two rules are called {name!r}; reason codes must be distinct.", kind="bad_policy"
            )
    rules = tuple(Rule(r.name, _filter(r, fields, where)) for r in document.rules)
    for rule in rules:
        if rule.after_near_duplicates and "near_duplicates" not in document.requires:
            raise ConfigError(
                f"{where}: rule {rule.name!r} asks about near-duplicates: add near_duplicates to `requires:`.",
                kind="bad_policy",
            )
    return Policy(document.name, tuple(s for s in STEPS if s in document.requires or s == "inspect"), rules)


def _filter(rule: _Rule, fields: Fields, where: str) -> Filter:
    try:
        compiled = parse(rule.hold, fields)
    except InputError as error:
        raise ConfigError(f"{where}: rule {rule.name!r}: {error}", kind="bad_policy") from None
    circular = compiled.fields & {"verdict", "reasons", "datasets"}
    if circular:
        raise ConfigError(
            f"{where}: rule {rule.name!r} reads {', '.join(sorted(circular))}, which follow from verdicts: a rule cannot.",
            kind="bad_policy",
        )
    return compiled
