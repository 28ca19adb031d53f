"""The administration: what this machine's user may ask and change, on a listener of its own.

Read in this order: `guard` (who may ask), `token` (what proves it), `port` (what is asked of the node), `routes`
(status, peers, sync, metrics), then the others: `admission` (who is let in), `bundles` (messages carried by foot),
`report` (convergence in writing), `dashboard` (the page, with `sessions` and the `live` stream). `bodies` is JSON in
and out.

Who puts it together is `node.administration`.
"""
