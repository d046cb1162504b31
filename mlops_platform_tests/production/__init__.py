"""The graph on what production runs on: emulators, servers and doubles that the tests start."""
