"""The labels that people gave: their events, and the tables that they become."""
