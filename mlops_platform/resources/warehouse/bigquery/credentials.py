"""The service-account key of BigQuery, and Google's credentials from it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from mlops_platform.errors import WarehouseError

HOW_TO_LOG_IN = "set MLOPS_BIGQUERY_KEYFILE or MLOPS_BIGQUERY_CREDENTIALS, or provide Application Default Credentials"


@dataclass(frozen=True)
class BigQueryKey:
    """A service-account key, as base64 or as a file; neither means Application Default Credentials.

    An object and not a field of the resource, because Dagster shows the fields of a resource in its UI.
    """

    encoded: SecretStr | None = None
    file: Path | None = None

    def credentials(self) -> Any:
        """Return Google's credentials.

        Raises:
            WarehouseError: The key can't be read, or there are no credentials at all.
        """
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud.bigquery import Client
        from google.oauth2.service_account import Credentials

        setting = f"MLOPS_BIGQUERY_KEYFILE ({self.file})" if self.encoded is None else "MLOPS_BIGQUERY_CREDENTIALS"
        try:
            if self.encoded is not None:
                text = base64.b64decode(self.encoded.get_secret_value(), validate=True)
            elif self.file is not None:
                text = self.file.read_bytes()
            else:
                return google.auth.default(scopes=Client.SCOPE)[0]
            return Credentials.from_service_account_info(json.loads(text), scopes=Client.SCOPE)
        except OSError as error:
            raise WarehouseError(f"{setting} cannot be read ({error.strerror}): check the path.") from None
        except (ValueError, AttributeError, TypeError):  # without the cause, which may quote the key
            raise WarehouseError(
                f"{setting} is not a service-account key: create a new one (as base64 in the variable)."
            ) from None
        except DefaultCredentialsError:  # after ValueError: a malformed key is both
            raise WarehouseError(f"There are no credentials for BigQuery: {HOW_TO_LOG_IN}.") from None
