"""The HTTP service: the champion's predictions, and a durable log of them.

``champion`` follows the registry, ``shipping`` uploads the event log, ``log_store`` reads it, ``app`` speaks HTTP. What
becomes of the predictions belongs to the asset `predictions`.
"""
