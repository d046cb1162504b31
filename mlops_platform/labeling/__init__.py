"""Where people label: the queue as they see it, the page's server, and the queue as a CSV file.

The page is plain HTML, CSS and JavaScript in ``page/``. What becomes of a label is not known here: it goes to the log
of ``resources.label_log``.
"""
