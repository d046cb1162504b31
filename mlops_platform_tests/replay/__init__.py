"""The replay: scenarios, dealing, faults, the loop, and the command."""
