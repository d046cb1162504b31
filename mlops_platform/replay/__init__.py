"""A labelled history played through the learning loop in simulated time: `mlops replay`."""
