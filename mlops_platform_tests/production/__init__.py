"""Tests of what only production uses; `make test-production` runs them."""
