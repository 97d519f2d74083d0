"""The rules of a gate, from YAML: what the step from one snapshot to another may and may not do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from refinery.config import validate
from refinery.digests import digest_json
from refinery.errors import ConfigError, InputError, did_you_mean
from refinery.fields import Fields, FieldType

NUMERIC = frozenset([FieldType.INTEGER, FieldType.NUMBER, FieldType.DATE])
CATEGORICAL = frozenset([FieldType.STRING, FieldType.BOOLEAN, FieldType.TEXT])
ROW_FIELDS = ("bytes", "format", "width", "height", "min_side", "aspect", "near_duplicate", "payloads")
"""The built-in fields that the rows of a snapshot hold, or that follow from them."""
FACT_FIELDS = ("mode", "orientation", "has_alpha", "brightness", "contrast", "entropy", "sharpness")
"""The built-in fields that are read from the facts of the snapshot's inspect step."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


def label(value: Any) -> str:
    """A value as rules and reports write it: `true` and `false` as YAML does, everything else as its text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _labelled(value: Any) -> Any:
    return {label(k): v for k, v in value.items()} if isinstance(value, dict) else value


class Rule(BaseModel):
    """One rule. `bounds` are the keys of which it needs at least one."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    bounds: ClassVar[tuple[str, ...]] = ()
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    kind: str


class SizeRule(Rule):
    """How many samples HEAD has, and how much smaller or larger than BASE it may be, as a fraction of BASE."""

    bounds = ("min", "max", "max_shrink", "max_growth")
    kind: Literal["size"]
    min: Count | None = None
    max: Count | None = None
    max_shrink: Share | None = None
    max_growth: Amount | None = None


class BalanceRule(Rule):
    """The shares of a field's values among HEAD's samples, and by how much one may change since BASE."""

    bounds = ("max_share", "min_share", "max_shift")
    kind: Literal["balance"]
    field: str
    max_share: Share | None = None
    min_share: Annotated[dict[str, Share], BeforeValidator(_labelled)] = {}
    max_shift: Share | None = None


class DuplicatesRule(Rule):
    """The share of HEAD's samples with a near-duplicate in HEAD; how many have exactly the pixels of another."""

    bounds = ("max_rate", "max_equal_pixels")
    kind: Literal["duplicates"]
    max_rate: Share | None = None
    max_equal_pixels: Count | None = None


class LeakageRule(Rule):
    """How many of HEAD's samples are in, or are near-duplicates of samples in, other snapshots; with `splits`, how many are
    near-duplicates of samples in another split of HEAD."""

    bounds = ("against", "splits")
    kind: Literal["leakage"]
    against: list[str] = []
    splits: bool = False
    max_overlap: Count = 0


class DriftRule(Rule):
    """The distance between BASE and HEAD in one field or one embedding space. `bins` are those of the stability index;
    `at_most` samples of each side, chosen by a hash with `seed`, stand for all in an embedding space."""

    bounds = ("max_ks", "max_psi", "max_total_variation", "max_cosine", "max_mmd", "max_missing")
    kind: Literal["drift"]
    field: str | None = None
    space: str | None = None
    max_ks: Share | None = None
    max_psi: Amount | None = None
    max_total_variation: Share | None = None
    max_cosine: Annotated[float, Field(ge=0, le=2)] | None = None
    max_mmd: Amount | None = None
    max_missing: Share | None = None
    bins: Annotated[int, Field(ge=2, le=100)] = 10
    at_most: Annotated[int, Field(ge=2, le=20_000)] = 5000
    seed: int = 0


class VerifiedRule(Rule):
    """HEAD's rows are all there and give its root."""

    kind: Literal["verified"]


KINDS: dict[str, type[Rule]] = {
    "size": SizeRule,
    "balance": BalanceRule,
    "duplicates": DuplicatesRule,
    "leakage": LeakageRule,
    "drift": DriftRule,
    "verified": VerifiedRule,
}


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    rules: Annotated[list[dict[str, Any]], Field(min_length=1)]


@dataclass(frozen=True)
class GateRules:
    """Checked rules, in the order of the file. The digest is that of their meaning: comments and layout do not count."""

    rules: tuple[Rule, ...]

    @property
    def digest(self) -> str:
        return digest_json({"gate": [r.model_dump(mode="json") for r in self.rules]})


def load_rules(path: Path, fields: Fields, spaces: Collection[str]) -> GateRules:
    """The rules in a YAML file. ConfigError when there is none or it is wrong."""
    try:
        return parse_rules(path.read_text(encoding="utf-8"), fields, spaces, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The gate rules {path} cannot be read: {error}.", kind="no_gate_rules") from None


def parse_rules(text: str, fields: Fields, spaces: Collection[str], where: str = "gate") -> GateRules:
    """Rules from YAML text, for a project with these fields and embedding spaces. ConfigError names the rule and what is
    wrong with it."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {error}", kind="bad_gate_rules") from None
    document = validate(_Document, {} if raw is None else raw, where)
    rules: list[Rule] = []
    for number, one in enumerate(document.rules, 1):
        place = f"{where}: rule {one['name']!r}" if "name" in one else f"{where}: rule {number}"
        rule = validate(_model(one, place), one, place)
        if rule.name in {r.name for r in rules}:
            raise _wrong(place, "another rule has the same name; names must be distinct")
        _check(rule, fields, spaces, place)
        rules.append(rule)
    return GateRules(tuple(rules))


def _model(raw: dict[str, Any], place: str) -> type[Rule]:
    kind = raw.get("kind")
    if kind not in KINDS:
        what = f"unknown kind {kind!r}" if "kind" in raw else "it has no kind"
        raise _wrong(place, f"{what}; there are {', '.join(KINDS)}", did_you_mean(str(kind), KINDS))
    return KINDS[str(kind)]


def _check(rule: Rule, fields: Fields, spaces: Collection[str], place: str) -> None:
    given = [b for b in rule.bounds if getattr(rule, b) != type(rule).model_fields[b].default]
    if rule.bounds and not given:
        raise _wrong(place, f"it bounds nothing; give at least one of {', '.join(rule.bounds)}")
    if isinstance(rule, BalanceRule):
        kind = field_type(rule.field, fields, place)
        if kind not in (*CATEGORICAL, FieldType.INTEGER, FieldType.STRING_LIST):
            raise _wrong(
                place, f"field {rule.field!r} is a {kind.value}, whose values have no shares; use kind drift"
            )
    if isinstance(rule, DriftRule):
        _check_drift(rule, given, fields, spaces, place)


def _check_drift(
    rule: DriftRule, given: list[str], fields: Fields, spaces: Collection[str], place: str
) -> None:
    if (rule.field is None) == (rule.space is None):
        raise _wrong(place, "drift is of either a `field` or an embedding `space`; give one of the two")
    if rule.space is not None:
        if rule.space not in spaces:
            raise _wrong(
                place,
                f"there is no embedding space {rule.space!r}; there are {', '.join(spaces)}",
                did_you_mean(rule.space, spaces),
            )
        fitting: tuple[str, ...] = ("max_cosine", "max_mmd", "max_missing")
        what = f"embedding space {rule.space!r}"
    else:
        kind = field_type(str(rule.field), fields, place)
        if kind in NUMERIC:
            fitting = ("max_ks", "max_psi", "max_missing")
        elif kind in CATEGORICAL:
            fitting = ("max_total_variation", "max_missing")
        else:
            raise _wrong(
                place, f"field {rule.field!r} is a {kind.value}, which has no drift; use kind balance"
            )
        what = f"field {rule.field!r} ({kind.value})"
    unfit = [b for b in given if b not in fitting]
    if unfit:
        raise _wrong(place, f"{', '.join(unfit)} cannot bound {what}; use {', '.join(fitting)}")


def field_type(name: str, fields: Fields, place: str) -> FieldType:
    """The type of a field that a snapshot has values of. ConfigError for any other field."""
    try:
        field = fields[name]
    except InputError as error:
        raise ConfigError(f"{place}: {error}", kind="unknown_field") from None
    if field.builtin and name not in (*ROW_FIELDS, *FACT_FIELDS):
        raise _wrong(
            place,
            f"field {name!r} is not frozen in snapshots, so a gate cannot judge it; there are "
            f"{', '.join((*ROW_FIELDS, *FACT_FIELDS))} and the registered attributes",
        )
    return field.type


def _wrong(place: str, what: str, hint: str = "") -> ConfigError:
    return ConfigError(f"{place}: {what}.{hint}", kind="bad_gate_rules")
