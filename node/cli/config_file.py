"""`config.toml`, changed by the program: only the lines of what changes, everything else stays as the user wrote it.

The file is flat (no option takes a table), so it is a row of statements with comments between them. A statement is
found by reading lines until they are TOML. A comment behind a changed value stays too, if the statement is one line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click
import tomli_w

from node.cli.settings import checked_value, env_name, read_config_file, run_config
from node.config import RunConfig, SettingError
from node.datadir import CONFIG_FILE, default_data_dir, write_file
from node.service.awake import can_keep_awake
from node.service.extras import how_to_get
from protocols.limits.tools import CONFIG_FILE_BYTES_MAX

__all__ = ["ConfigFile", "edited", "text_of_duration", "text_of_size"]

_KEYS: Final = ("paused", "keep-awake", "name", "storage-limit", "retention", "peer")


class ConfigFile:
    """The settings of the mailbox that `mailboxd run` started in `context`; implements `node.config.SettingsFile`."""

    def __init__(self, context: click.Context) -> None:
        self._context = context
        self._path = (context.params["data_dir"] or default_data_dir()) / CONFIG_FILE
        self._params = {
            param.opts[0].removeprefix("--"): param
            for param in context.command.params
            if isinstance(param, click.Option)
        }
        self._values = dict(context.params)
        # What holds where neither the user nor the file says something.
        self._defaults = context.command.make_context("run", [], resilient_parsing=True).params

    def shown(self, config: RunConfig) -> dict[str, Any]:
        """See `SettingsFile`."""
        limit = config.storage_limit_bytes
        values: dict[str, Any] = {
            "paused": config.paused,
            "name": config.name or "",
            "storage-limit": "" if limit is None else text_of_size(limit),
            "retention": text_of_duration(config.retention.retention_s),
            "peer": [str(peer) for peer in config.peers],
            "keep-awake": config.keep_awake,
        }
        return {key: {"value": value, "locked": self._why_locked(key)} for key, value in values.items()}

    def check(self, changes: Mapping[str, Any]) -> RunConfig:
        """See `SettingsFile`."""
        values = self._with(changes)
        try:
            config = run_config(values.pop("data_dir"), values)
        except click.UsageError as error:
            raise SettingError(next(iter(changes), ""), error.message) from None
        self._read()
        return config

    def save(self, changes: Mapping[str, Any]) -> None:
        """See `SettingsFile`. A linked file is written where it lies."""
        text = edited(self._read(), changes)
        if len(text.encode()) > CONFIG_FILE_BYTES_MAX:
            raise SettingError("", f"{self._path} would become too large")
        write_file(self._path.resolve(), text.encode())
        self._values = self._with(changes)

    def _with(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """All values, by their options' names in Python, with `changes`. Raises SettingError."""
        values = dict(self._values)
        for key, value in changes.items():
            if key not in _KEYS:
                raise SettingError(key, "this can't be changed here")
            if why := self._why_locked(key):
                raise SettingError(key, why)
            param = self._params[key]
            name = str(param.name)
            if value is None:
                values[name] = self._defaults[name]
                continue
            try:
                given = checked_value(self._context, key, value, param)
            except ValueError as error:
                raise SettingError(key, str(error).removeprefix(f"{key}: ")) from None
            values[name] = param.type_cast_value(self._context, given)
        return values

    def _read(self) -> str:
        try:
            read_config_file(self._path)
            return self._path.read_text("utf-8-sig") if self._path.exists() else ""
        except (ValueError, OSError) as error:
            raise SettingError("", f"{self._path}: {error}; mend it first") from None

    def _why_locked(self, key: str) -> str | None:
        source = self._context.get_parameter_source(str(self._params[key].name))
        if source is click.core.ParameterSource.COMMANDLINE:
            return f"given on the command line with --{key}, which comes first; leave it out there to change it here"
        if source is click.core.ParameterSource.ENVIRONMENT:
            return f"given in the environment as {env_name(key)}, which comes first; unset it to change it here"
        if key == "keep-awake" and not can_keep_awake():
            return f"it needs a library, which `{how_to_get('wakepy')}` brings"
        return None


# --- editing -------------------------------------------------------------------------------------------------------


def edited(text: str, changes: Mapping[str, Any]) -> str:
    """`text` (a config.toml) with `changes`: values as in TOML, None removes the key. Raises SettingError if that can't
    be done without touching anything else."""
    wanted = {key: value for key, value in (tomllib.loads(text) | dict(changes)).items() if value is not None}
    left = dict(changes)
    parts: list[str] = []
    for part in _statements(text):
        key = next(iter(tomllib.loads(part)), None)
        if key not in changes:
            parts.append(part)
        elif key in left and (value := left.pop(key)) is not None:
            parts.append(_statement(key, value, _comment(part)))
    if parts and not parts[-1].endswith("\n"):
        parts.append("\n")
    parts += [_statement(key, value, "") for key, value in left.items() if value is not None]
    result = "".join(parts)
    if tomllib.loads(result) != wanted:
        raise SettingError("", "config.toml is written in a way that can't be changed from here; edit it by hand")
    return result


def _statements(text: str) -> Iterator[str]:
    """Each statement with the comments and empty lines before it, as one piece; what is left at the end as another."""
    before: list[str] = []
    for line in re.findall(r"[^\n]*\n|[^\n]+$", text):
        if not before and (not line.strip() or line.lstrip().startswith("#")):
            yield line
            continue
        before.append(line)
        try:
            tomllib.loads("".join(before))
        except tomllib.TOMLDecodeError:
            continue
        yield "".join(before)
        before = []
    if before:
        yield "".join(before)


def _statement(key: str, value: Any, comment: str) -> str:
    line = tomli_w.dumps({key: value}).rstrip("\n")
    return f"{line}  {comment}\n" if comment else f"{line}\n"


def _comment(statement: str) -> str:
    """The comment at the end of a statement of one line; empty if there is none."""
    line = statement.rstrip("\r\n")
    if "\n" in line:
        return ""
    for at, char in enumerate(line):
        if char == "#":
            try:
                if tomllib.loads(line[:at]) == tomllib.loads(line):
                    return line[at:]
            except tomllib.TOMLDecodeError:
                continue
    return ""


def text_of_size(size: int) -> str:
    """Bytes as a user would write them, without loss: `2GiB`, `500MB`, `1234B`."""
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("TB", 10**12), ("GB", 10**9), ("MiB", 1 << 20)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size // 10**6}MB" if size % 10**6 == 0 else f"{size}B"


def text_of_duration(seconds: int) -> str:
    """Likewise: `7d`, `36h`, `90m`, `1s`."""
    for unit, factor in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % factor == 0:
            return f"{seconds // factor}{unit}"
    return f"{seconds}s"
