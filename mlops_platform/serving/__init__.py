"""The HTTP service: the champion's predictions, and a durable log of them.

``champion`` follows the registry, ``prediction_log`` keeps what was answered, ``app`` speaks HTTP. What is done with
the log afterwards belongs to the asset `predictions`.
"""
