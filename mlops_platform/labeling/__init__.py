"""The labeling page's server, its queue, and the queue as a CSV file.

The page is plain HTML, CSS and JavaScript in ``page/``. Labels are appended to ``resources.labels.label_log``; which of
them count is decided elsewhere.
"""
