"""A mailbox's shell: everything that touches the world, and one composition root (`node.app`).

`store`, `transport`, `discovery` and `clock` are ports: an interface and its implementations, held together by the
contract tests. `mailbox` is the core that they serve, `http` and `sync` its two doors, `cli` the command line.
"""
