"""The policy: what it says, what another one would change, and its adoption."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from refinery.digests import digest
from refinery.errors import ConfigError, ConflictError, InputError, RefineryError
from refinery.policy import Policy, parse_policy
from refinery.project import Refinery
from refinery.replay import ReplayReport
from refinery.trials import Trial, try_policy
from ui.core.acts import Acts

_LONGEST = 100_000


@dataclass(frozen=True, slots=True)
class Draft:
    """A policy as text that somebody edits, and the version of policy.yaml that it began from."""

    text: str
    version: str


@dataclass(frozen=True, slots=True)
class Adoption:
    """A policy that is in force; what the replay did, or why there was none yet."""

    policy: Policy
    report: ReplayReport | None
    behind: str = ""


class Policies:
    """The policy of one project. With read-only acts, it is looked at and tried only."""

    def __init__(self, project: Refinery, acts: Acts) -> None:
        self._project, self._acts = project, acts
        self.path: Path = (project.path / project.settings.policy).resolve()

    def current(self) -> Draft:
        """policy.yaml as it is now. ConfigError when it cannot be read."""
        data = self._read()
        try:
            return Draft(data.decode("utf-8"), digest(data))
        except UnicodeDecodeError:
            raise ConfigError(f"The policy {self.path} is no UTF-8 text.", kind="no_policy") from None

    def parse(self, text: str) -> Policy:
        """The policy that a text says. ConfigError names the rule and what is wrong with it."""
        if len(text) > _LONGEST:
            raise InputError(
                f"A policy has at most {_LONGEST:,} characters; this has {len(text):,}.", kind="too_long"
            )
        try:
            return parse_policy(text, self._project.fields, self.path.name)
        except RecursionError:
            raise InputError(f"{self.path.name} is nested too deep to be read.", kind="bad_policy") from None

    def try_(self, text: str) -> Trial:
        """What the policy of this text would change. Nothing is written."""
        return try_policy(self._project, self.parse(text))

    def adopt(self, draft: Draft, name: str) -> Adoption:
        """Make the draft policy.yaml and replay, in the name of a person.

        ConflictError when policy.yaml is another one than the draft began from. When the replay cannot be done, the policy
        is adopted all the same and `behind` says why its verdicts are not there yet.
        """
        actor = self._acts.actor(name)
        policy = self.parse(draft.text)
        self._write(draft)
        try:
            report = self._project.replay(actor=actor)
            self._project.project()
        except RefineryError as error:
            return Adoption(policy, None, str(error))
        return Adoption(policy, report)

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"The policy {self.path} cannot be read: {type(error).__name__}.", kind="no_policy"
            ) from None

    def _write(self, draft: Draft) -> None:
        """Replace policy.yaml, whole or not at all; of all who do this here at once, one after the other."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        fresh = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if digest(self._read()) != draft.version:
                raise ConflictError(
                    f"{self.path.name} was changed since this draft began: load it again, and try your change on it.",
                    kind="policy_changed",
                )
            with fresh.open("xb") as file:
                file.write(draft.text.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
            shutil.copymode(self.path, fresh)
            fresh.replace(self.path)
            os.fsync(folder)
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be written: {error.strerror}. It is as it was.", kind="no_policy"
            ) from None
        finally:
            fresh.unlink(missing_ok=True)
            os.close(folder)
