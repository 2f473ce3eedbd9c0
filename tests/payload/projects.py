"""Projects whose payload a test chooses."""

from typing import Any

from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project


def configured(project: Project, **payload: Any) -> Project:
    kernels = {"6.1": {"source": {"oci": "example/6.1"}}}
    config = Config.model_validate({"kernels": kernels, "payload": payload})
    return Project(project.root, config, project.cache)
