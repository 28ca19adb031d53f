"""HTTP: the phones' Toy Mailbox API and the administration, over one small HTTP/1.1 server.

Read in this order: `head` (bytes of a request's head and chunks to values; no I/O), `messages` (Request, Response,
Router), `connection` (one client, all its limits), `server` (listeners, connections, shutdown), `toy` and `admin/` (the
routes), `client` (the other side, for the command line).

Why an own server: the well-kept ones on trio have no minimum data rate, no body limit and no connection limit, and
reach a twelfth of the rate; the fast parsers accept a dozen things that must be refused (bare LF, `+5`, HTTP/1.9, two
lengths) and don't say where a chunked message ends, which serving pipelined requests one by one needs. Once all that is
checked, nothing is left for a parser to do. The tests hold this one against h11.
"""
