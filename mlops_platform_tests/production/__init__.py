"""The graph on what production runs on: emulators, servers and doubles; `make test-production` runs them."""
