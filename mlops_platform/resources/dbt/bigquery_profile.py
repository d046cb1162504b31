"""What dbt needs to build on BigQuery: variables for its profile, and the key, which is no variable.

dbt writes variables into its artifacts, so a secret reaches it through the environment, and only while it runs.
"""

from __future__ import annotations

import base64
import json
import math

from pydantic import SecretStr

from mlops_platform.errors import TransformError
from mlops_platform.resources.dbt.runner import DbtSecrets
from mlops_platform.settings import WarehouseSettings


def bigquery_variables(settings: WarehouseSettings) -> dict[str, str]:
    """Return the variables of the target `bigquery` in profiles.yml."""
    variables = {
        "schema_name": settings.schema_name,
        "bigquery_project": settings.bigquery_project,
        "bigquery_location": settings.bigquery_location,
        "bigquery_timeout": str(math.ceil(settings.bigquery_timeout)),
        "bigquery_max_bytes": str(settings.bigquery_max_bytes),
        "bigquery_method": "oauth",
    }
    if settings.bigquery_credentials is not None:
        variables["bigquery_method"] = "service-account-json"
    elif settings.bigquery_keyfile is not None:
        variables["bigquery_method"] = "service-account"
        variables["bigquery_keyfile"] = str(settings.bigquery_keyfile)
    if settings.bigquery_endpoint is not None:
        variables["bigquery_endpoint"] = settings.bigquery_endpoint
    return variables


def bigquery_secrets(credentials: SecretStr | None) -> DbtSecrets:
    """Return what the environment must hold while dbt runs, if a service-account key is set as base64."""
    if credentials is None:
        return DbtSecrets()
    try:
        text = base64.b64decode(credentials.get_secret_value(), validate=True).decode()
        json.loads(text).keys()
    except (ValueError, AttributeError):  # without the cause, which may quote the key
        raise TransformError(
            "MLOPS_BIGQUERY_CREDENTIALS is no service-account key: set it to the JSON key file as base64, on one line."
        ) from None
    return DbtSecrets({"MLOPS_BIGQUERY_KEYFILE_JSON": text})
