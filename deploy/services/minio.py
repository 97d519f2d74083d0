"""S3 as MinIO: for tests and trials."""

from __future__ import annotations

import secrets
from pathlib import Path

from deploy.services.install import minio_binary
from deploy.services.process import ServerProcess, answers
from deploy.services.server import Server


class MinioServer(Server):
    """MinIO on one folder. Without credentials given, the secret is random and new for every object of this class."""

    name = "MinIO"
    deadline = 60.0

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        access_key: str = "refinery",
        secret_key: str | None = None,
    ) -> None:
        super().__init__(folder, port)
        self.access_key = access_key
        self.secret_key = secret_key or secrets.token_hex(20)

    @property
    def endpoint(self) -> str:
        """Where S3 answers."""
        return self.url

    def _launch(self, port: int) -> ServerProcess:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        return ServerProcess(
            [minio_binary(), "server", "--quiet", "--address", f"127.0.0.1:{port}", data],
            self.log,
            {
                "MINIO_ROOT_USER": self.access_key,
                "MINIO_ROOT_PASSWORD": self.secret_key,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
                "HOME": str(self.folder),
            },
        )

    def _ready(self, port: int) -> bool:
        return answers(port, "/minio/health/ready")
