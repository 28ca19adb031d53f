"""`mailboxd simulate`: what it takes. What it does is in `acts` and `catalogue`, only imported when used."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["simulate"]


@click.command()
@click.argument("scenario", required=False, metavar="[NAME|FILE.toml]")
@click.option("--list", "is_list", is_flag=True, help="List the scenarios that come with the program.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=1,
    show_default=True,
    help="All chance comes from it: the same seed plays the same run.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE.html",
    help="Write a page that shows the run.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write everything about the run into this directory: data as JSON, the page, a picture. A swarm writes the "
    "failing scenario there.  [default for a swarm: here]",
)
@click.option(
    "--swarm",
    type=click.IntRange(1, 10_000_000),
    metavar="N",
    help="Play N seeds from --seed on: of random scenarios, or of the one that is named. The first failure is made "
    "small and written to a file.",
)
@click.option(
    "--jobs", type=click.IntRange(1, 1024), metavar="N", help="Processes of a swarm.  [default: one for each core]"
)
@click.option(
    "--real",
    "is_real",
    is_flag=True,
    help="Play it on real processes in network namespaces, too, and compare. Needs Linux and root.",
)
@click.option(
    "--speed",
    type=click.FloatRange(1, 10_000),
    metavar="X",
    help="With --real: play both in an Xth of the time; sync intervals and retention shrink with it.  [default: 1]",
)
@click.option(
    "--analytic", "is_analytic", is_flag=True, help="Reckon what networks cost that are too large to be played."
)
@click.option(
    "--mailboxes",
    type=click.IntRange(2, 100_000_000),
    multiple=True,
    metavar="N",
    help="With --analytic: a size; repeatable.  [default: from 2 to 100,000]",
)
@click.option(
    "--plan",
    multiple=True,
    metavar="NAME=NUMBER",
    help="With --analytic: what else is planned, as lan_mailboxes=50, messages_per_day=500 or share=0.05; repeatable.",
)
def simulate(
    scenario: str | None,
    is_list: bool,
    seed: int,
    as_json: bool,
    report: Path | None,
    out: Path | None,
    swarm: int | None,
    jobs: int | None,
    is_real: bool,
    speed: float | None,
    is_analytic: bool,
    mailboxes: tuple[int, ...],
    plan: tuple[str, ...],
) -> None:
    """Play a network of mailboxes that is torn apart, and check what must hold.

    Mailboxes and phones run on simulated networks, disks and clocks: hours pass in seconds, and every run can be
    played again by its seed. A scenario is one of --list, or a file that you wrote. Exit code 1 if something that must
    hold did not.

    \b
    Examples:
      mailboxd simulate --list
      mailboxd simulate two-lans --seed 7 --report run.html
      mailboxd simulate my-town.toml --out results
      mailboxd simulate --swarm 1000
      sudo mailboxd simulate two-lans --real --speed 60 --report both.html
      mailboxd simulate --analytic --mailboxes 5000 --plan lan_mailboxes=50
    """
    _refuse(speed is not None and not is_real, "--speed is for --real; simulated time flies by itself")
    if is_analytic:
        from simulations.analytic.act import show_plans  # noqa: PLC0415 - as below

        _refuse(scenario is not None or is_real, "--analytic plays no scenario; leave out its name and --real")
        show_plans(mailboxes, plan, is_json=as_json, out=out)
        return
    _refuse(bool(mailboxes or plan), "--mailboxes and --plan are for --analytic")
    if is_list:
        _refuse(scenario is not None, "--list lists all scenarios; leave out the name")
        from simulations.catalogue import list_scenarios  # noqa: PLC0415 - help must not cost what playing costs

        list_scenarios(as_json=as_json)
        return
    _refuse(jobs is not None and swarm is None, "--jobs is for a swarm; add --swarm N")
    _refuse(
        report is not None and swarm is not None, "--report shows one run; a swarm writes its failure into --out DIR"
    )
    _refuse(is_real and swarm is not None, "--real plays one scenario; leave out --swarm")
    if scenario is None and swarm is None:
        raise click.UsageError("name a scenario; `mailboxd simulate --list` shows them")
    if not _play(scenario, seed, as_json, report, out, swarm, jobs, speed=(speed or 1.0) if is_real else None):
        raise click.exceptions.Exit(1)


def _play(
    scenario: str | None,
    seed: int,
    as_json: bool,
    report: Path | None,
    out: Path | None,
    swarm: int | None,
    jobs: int | None,
    *,
    speed: float | None,
) -> bool:
    """Whether everything held. `speed` is that of real processes, None for a simulation."""
    from simulations import acts  # noqa: PLC0415 - as above

    if swarm is not None:
        return acts.play_swarm(scenario, seed, swarm, jobs=jobs, as_json=as_json, out=out)
    assert scenario is not None
    if speed is not None:
        from simulations.real.act import play_both  # noqa: PLC0415 - as above

        return play_both(scenario, seed, speed=speed, as_json=as_json, report=report, out=out)
    return acts.play_one(scenario, seed, as_json=as_json, report=report, out=out)


def _refuse(is_wrong: bool, text: str) -> None:
    if is_wrong:
        raise click.UsageError(text)
