"""The work itself, written against ports: one poll, its relay, routes and retention."""
