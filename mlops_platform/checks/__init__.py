"""What guards the assets: expectation suites, load quality, labels and model gates."""
