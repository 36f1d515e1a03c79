"""Know before you spend: what fits, how long it takes, what it costs, and what larger runs will reach. No torch, under a second."""
