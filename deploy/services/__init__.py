"""Real servers on this machine, for tests and for trying things out: OpenSearch with k-NN, and S3 as MinIO.

`python -m deploy.services` is the command line; from Python:

    with Servers(folder) as servers:
        servers.opensearch.url, servers.s3.endpoint

Every server listens on 127.0.0.1 alone, keeps everything it writes below one folder, and ends with the process that
started it, however that process ends.
"""

from deploy.services.errors import ServiceError
from deploy.services.minio import MinioServer
from deploy.services.opensearch import OpenSearchServer
from deploy.services.servers import Servers

__all__ = ["MinioServer", "OpenSearchServer", "Servers", "ServiceError"]
