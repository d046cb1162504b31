"""The Celery application of the workers: `celery --app mlops_platform.celery_app worker`.

Its tasks are dagster-celery's; only its configuration is here.
"""

from dagster_celery.app import app

from mlops_platform.settings import Settings

settings = Settings()
broker = settings.celery_broker.get_secret_value()
app.conf.update(
    broker_url=broker,
    result_backend=broker,
    # a worker runs one step at a time, and reserves no other
    worker_concurrency=1,
    worker_prefetch_multiplier=1,
    # a step leaves the broker when it has ended, so that the step of a dead worker goes to another one
    task_acks_late=True,
    # a step whose process was killed, such as for lack of memory, is retried once
    task_annotations={"execute_plan": {"retry_on_worker_lost": True, "max_retries": 1, "default_retry_delay": 1}},
    # with this throttle, Redis is searched for steps of dead workers every 10 s, not every 100 s
    broker_transport_options={
        "visibility_timeout": settings.celery_redelivery_seconds,
        "unacked_restore_throttle": 1,
    },
    broker_connection_retry_on_startup=True,
)
