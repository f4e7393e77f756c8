"""The far end of the wire: what the city's platform receives, and its account of every number.

Two readers of the same messages. The bench's (`account`, `subscriber`) keeps everything in memory
and judges gateways; `yukimi-city` keeps a database and is held against it. Both read messages by
`payloads` and count numbers by `agent.numbers`. Reading order of the second:

    wire -> consumer -> messages -> rows -> store (sqlite | postgres; the SQL is in tables)
    receipts                         what the city holds, told to the gateways
    days -> daybook                  the account of a day
    formats                          other platforms
    pages (plot, markup, words)      the page for people
    cli, *_verb                      the command line
"""
