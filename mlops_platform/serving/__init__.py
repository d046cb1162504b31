"""The HTTP service: the champion's predictions, and a durable log of them.

``champion`` follows the registry, ``model_cache`` copies models, ``log_uploader`` uploads the event log, and
``app`` defines the routes. Reading the log belongs to ``resources.prediction_log`` and the asset `predictions`.
"""
