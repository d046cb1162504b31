"""The clients of BigQuery: dagster-gcp's resource for the REST API, and Google's for the Storage API.

Importing this imports Google's libraries and dagster-gcp, which takes seconds: import it where a client is needed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster_gcp import BigQueryResource
from google.cloud import bigquery
from google.cloud.bigquery_storage import BigQueryReadClient

from mlops_platform.resources.warehouse.bigquery.credentials import BigQueryKey


class BigQueryConnection(BigQueryResource):
    """dagster-gcp's resource, whose client gets the key and the address directly.

    dagster-gcp hands a key over through an environment variable, which threads share, and knows no other address
    than Google's.
    """

    key: dg.ResourceDependency[BigQueryKey]
    endpoint: str | None = None

    @contextmanager
    def get_client(self) -> Iterator[bigquery.Client]:
        """Yield a client."""
        with bigquery.Client(
            project=self.project,
            location=self.location,
            credentials=self.key.credentials(),
            client_options={"api_endpoint": self.endpoint} if self.endpoint else None,
        ) as client:
            yield client


@contextmanager
def storage_client(endpoint: str | None) -> Iterator[BigQueryReadClient | None]:
    """Yield a client of the Storage API at another address (host:port) than Google's, without TLS.

    Without an address nothing is yielded, and Google's client opens its own.
    """
    if endpoint is None:
        yield None
        return
    import grpc  # type: ignore[import-untyped]
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    with grpc.insecure_channel(endpoint, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))
