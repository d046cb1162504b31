"""A team's whole text-classification loop as one Dagster asset graph: from raw tables to a monitored champion.

::

    projects ──┬─ labeled_projects ──── validated_dataset ─┬─ tuned_params ─── trained_model ─── model_evaluation
    tags ──────┤                                           │                                            │
               │                                           └─ label_issues ───────┐              champion_model
               │                                                                  │                     │
               └─ unlabeled_projects ─┬───────────────────────────────────── labeling_queue ────────────┤
                                      └─ predictions ── drift_report ── retraining_decision ────────────┘

The champion makes `predictions` and chooses the `labeling_queue`; the labels that people give come back through
`tags`. `predictions`, `drift_report` and `retraining_decision` have a partition per day.

Imports point one way: ``cli`` calls ``build``, which assembles ``sensors``, ``checks`` and ``assets``; these call
``resources`` (what the assets run on) and ``ml`` (pure functions without Dagster or I/O). ``definitions`` is what
Dagster loads. Nothing is imported here: importing the package costs nothing.
"""
