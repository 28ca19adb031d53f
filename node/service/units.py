"""The texts that service managers read: a systemd user unit, a launchd agent, a Windows task. Pure functions."""

from __future__ import annotations

import plistlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from protocols.limits.tools import SERVICE_RESTART_S, SERVICE_START_S, SERVICE_WATCHDOG_S

__all__ = [
    "LAUNCHD_LABEL",
    "agent_is_disabled",
    "agent_word",
    "launchd_agent",
    "systemd_unit",
    "systemd_word",
    "task_is_enabled",
    "task_word",
    "windows_task",
]

LAUNCHD_LABEL: Final = "org.mailboxd.mailboxd"

# No namespaces (ProtectSystem, PrivateTmp …): user managers of many systems may not make them, and the unit would not
# start there. What stands here is filters of system calls, which every user may set for itself.
_HARDENING: Final = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictNamespaces=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
    "LimitNOFILE=65536",
)


def systemd_unit(command: Sequence[str]) -> str:
    """A user unit that runs `command`, which speaks sd_notify."""
    lines = [
        "[Unit]",
        "Description=Mailbox for local-first chat",
        "Documentation=man:mailboxd(1)",
        "After=network.target",
        "# However often it fails: a disk that comes back is no reason to need a person.",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={' '.join(map(systemd_word, command))}",
        "Restart=always",
        f"RestartSec={SERVICE_RESTART_S:.0f}",
        "# Wrong use stays wrong.",
        "RestartPreventExitStatus=2",
        f"WatchdogSec={SERVICE_WATCHDOG_S:.0f}",
        f"TimeoutStartSec={SERVICE_START_S:.0f}",
        *_HARDENING,
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def systemd_word(word: str) -> str:
    """A word of ExecStart: no specifiers, no variables, whatever stands in it."""
    quoted = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    quoted = quoted.replace("\n", "\\n").replace("\r", "\\r")  # a line of its own would be a statement of its own
    return f'"{quoted}"'


def launchd_agent(command: Sequence[str], log: Path) -> bytes:
    """A launchd agent (property list) that runs `command` at login and whenever it ends."""
    agent = {
        "Label": LAUNCHD_LABEL,
        "ProgramArguments": list(command),
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": int(SERVICE_RESTART_S),
        "ProcessType": "Background",
        "StandardErrorPath": str(log),
        "StandardOutPath": str(log),
        "Umask": 0o077,
        "SoftResourceLimits": {"NumberOfFiles": 8192},
    }
    return plistlib.dumps(agent, sort_keys=False)


def agent_word(word: str) -> str:
    """A word of the command as it stands in an agent."""
    return f"<string>{escape(word)}</string>"


def agent_is_disabled(listed: str) -> bool:
    """Whether `launchctl print-disabled` lists our agent as one that is not loaded at login."""
    found = re.search(rf'"{re.escape(LAUNCHD_LABEL)}"\s*=>\s*(\w+)', listed)
    return found is not None and found[1] in ("disabled", "true")  # older systems say true


def windows_task(command: Sequence[str]) -> bytes:
    """A task for the Task Scheduler (XML in UTF-16) that runs `command` at login and starts it again if it fails."""
    arguments = " ".join(map(_windows_word, command[1:]))
    text = f"""<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Description>Mailbox for local-first chat</Description></RegistrationInfo>
  <Triggers><LogonTrigger><Enabled>true</Enabled></LogonTrigger></Triggers>
  <Principals><Principal id="Author">
    <LogonType>InteractiveToken</LogonType><RunLevel>LeastPrivilege</RunLevel>
  </Principal></Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure><Interval>PT1M</Interval><Count>999</Count></RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec><Command>{escape(command[0])}</Command><Arguments>{escape(arguments)}</Arguments></Exec>
  </Actions>
</Task>
"""
    return text.encode("utf-16")


def task_word(word: str) -> str:
    """A word of the command as it stands in a task."""
    return escape(_windows_word(word))


def task_is_enabled(text: str) -> bool:
    """Whether a task, as `schtasks /Query /XML` prints it, is not disabled. What can't be read counts as disabled."""
    try:
        task = ElementTree.fromstring(text[max(0, text.find("<Task")) :])
    except ElementTree.ParseError:
        return False
    enabled = task.find("{*}Settings/{*}Enabled")
    return enabled is None or (enabled.text or "").strip().lower() != "false"


def _windows_word(word: str) -> str:
    """A word of a command line, quoted as the C runtime reads it."""
    if word and not set(word) & set(' \t"'):
        return word
    out, slashes = "", 0
    for char in word:
        if char == "\\":
            slashes += 1
            continue
        out += "\\" * (2 * slashes + 1 if char == '"' else slashes) + char
        slashes = 0
    return f'"{out}{chr(92) * 2 * slashes}"'
