"""Scenarios played for real: `mailboxd run` processes in network namespaces, with real TCP, disks and time.

    recording = play_real(faster(scenario, 60), seed)

How the parts fit: `feasible` says what can't be played, `speed` makes a play shorter. `network` gives each machine a
namespace (`namespaces`) and a cable to a process (`switch`) that carries frames as `wire` decides. On the machines
there are `mailboxes` and `phones`; `timeline` does the faults, `observer` looks at everything, `ledger` remembers who
held what, and `judge` says what broke. `play` joins them. `compare` puts a simulated run beside a real one.

Nothing is imported here: the switch starts often and needs little of it.
"""
