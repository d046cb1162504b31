"""A machine-learning platform that learns continually, as one Dagster asset graph.

::

    projects ─┐
              ├─ labeled_projects ── validated_dataset ──┬─ tuned_params ── trained_model ── model_evaluation
    tags ─────┤                                          ├──────────────────┘                       │
              │                                          └─ label_issues ── labeling_queue    champion_model
              └─ unlabeled_projects ── predictions ── drift_report ── retraining_decision (daily)

`labeling_queue` and `predictions` are made by the champion, from the unlabeled projects; people's labels come back
through `tags`.

Arrows in the code point one way: ``ml`` knows nothing of Dagster, ``assets`` and ``checks`` call ``ml`` and
``resources``, ``graph`` assembles them, and ``definitions`` is what Dagster loads.
"""
