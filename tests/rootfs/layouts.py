"""OCI image layouts: folders with images, as skopeo and buildx write them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.oci.registry import OCI, Descriptor


class Layout:
    """A folder that images are written into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs/sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self._entries: list[dict[str, Any]] = []

    def blob(self, data: Descriptor) -> Descriptor:
        """Write a blob."""
        self.blob_of(data).write_bytes(data.data)
        return data

    def blob_of(self, data: Descriptor) -> Path:
        """Return the file that has a blob."""
        return self.folder / "blobs/sha256" / data.digest.removeprefix("sha256:")

    def image(
        self,
        tag: str,
        layers: Sequence[Descriptor],
        arch: str = "amd64",
        env: Sequence[str] = (),
    ) -> Descriptor:
        """Write an image; with a tag, the folder's index names it."""
        config = {"os": "linux", "architecture": arch, "config": {"Env": list(env)}}
        described = Descriptor(f"{OCI}.config.v1+json", json.dumps(config).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": self.blob(described).as_json(),
            "layers": [self.blob(layer).as_json() for layer in layers],
        }
        made = Descriptor(f"{OCI}.manifest.v1+json", json.dumps(manifest).encode())
        made.platform = {"os": "linux", "architecture": arch}
        self.blob(made)
        if tag:
            self.name(tag, made)
        return made

    def index(self, tag: str, images: Sequence[Descriptor]) -> Descriptor:
        """Write an index of images, which the folder's index names."""
        data = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.index.v1+json",
            "manifests": [image.as_json() for image in images],
        }
        made = self.blob(Descriptor(f"{OCI}.index.v1+json", json.dumps(data).encode()))
        self.name(tag, made)
        return made

    def name(self, tag: str, image: Descriptor, **more: str) -> None:
        """Let the folder's index name an image; an empty tag is no name."""
        notes: Mapping[str, str] = {"org.opencontainers.image.ref.name": tag} if tag else {}
        self._entries.append({**image.as_json(), "annotations": {**notes, **more}})
        index = {"schemaVersion": 2, "manifests": self._entries}
        (self.folder / "index.json").write_text(json.dumps(index))
