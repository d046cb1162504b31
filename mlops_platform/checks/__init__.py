"""Asset checks: expectation suites, load quality and model gates."""
