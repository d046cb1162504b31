"""Monitoring of the champion: drift tests, and the policy that turns their results into a decision."""
